# An application for RISC-V chips with a CLIC: greets on UART0, counts alarms of the system timer in an interrupt handler, and on
# chips that have them calculates in single precision and starts the second core. It needs no library and may lie anywhere.
# The addresses come from the test (`--defsym`): UART0, SYSTIMER, MATRIX (register of the timer's source), RAM; CLIC where it
# is not in the usual place; FLOAT and
# SECOND (with CLOCK, RESET, ENTRY and their bits) where the chip has these.
    .option norelax
    .macro print text
    jal   a0, 9f
    .asciz "\text"
    .balign 4, 0
9:  jal   ra, puts
    .endm

    .ifndef CLIC
    .set CLIC, 0x20801000
    .endif

    .globl _start
_start:
    csrci mstatus, 8
    li    sp, RAM + 0x4000
    print "app: hello\r\n"

    # Line 1 of the matrix is interrupt 17: enabled, of the highest level, not by a table.
    la    t0, handler
    ori   t0, t0, 3
    csrw  mtvec, t0
    li    t0, MATRIX
    li    t1, 17
    sw    t1, 0(t0)
    li    t0, CLIC + 4 * 17
    li    t1, 0xff000100
    sw    t1, 0(t0)
    # Alarm 0 every 16,000 ticks of 16 MHz.
    li    s1, 0
    li    t0, SYSTIMER
    li    t1, 0x40000000 + 16000
    sw    t1, 0x34(t0)
    li    t1, 1
    sw    t1, 0x50(t0)
    sw    t1, 0x64(t0)
    lw    t2, 0(t0)
    li    t3, 0x1000000
    or    t2, t2, t3
    sw    t2, 0(t0)
    csrsi mstatus, 8
1:  wfi
    li    t1, 3
    bltu  s1, t1, 1b
    csrci mstatus, 8
    print "app: 3 alarms\r\n"

    .ifdef FLOAT
    # Off: an instruction is illegal, and the handler turns it on.
    li    s2, 0
    fmv.w.x fa0, zero
    beqz  s2, failed
    li    t0, 0x3fc00000                # 1.5
    fmv.w.x fa1, t0
    fadd.s fa2, fa1, fa1                # 3
    fmadd.s fa3, fa2, fa2, fa1          # 10.5
    fsw   fa3, 0(sp)
    flw   fa4, 0(sp)
    fdiv.s fa4, fa4, fa1                # 7
    fsqrt.s fa5, fa2                    # 1.7320508
    flt.s t1, fa5, fa2
    beqz  t1, failed
    fcvt.w.s a1, fa4, rtz
    addi  a1, a1, '0'
    mv    s3, a1
    print "app: float "
    mv    a1, s3
    jal   t6, put
    print "\r\n"
    .endif

    .ifdef SECOND
    li    s2, RAM
    sw    zero, 0(s2)
    la    t1, second
    li    t0, ENTRY
    sw    t1, 0(t0)
    li    t0, CLOCK
    lw    t1, 0(t0)
    li    t2, CLOCK_BIT
    or    t1, t1, t2
    sw    t1, 0(t0)
    li    t0, RESET
    lw    t1, 0(t0)
    li    t2, ~RESET_BIT
    and   t1, t1, t2
    sw    t1, 0(t0)
2:  lw    t1, 0(s2)
    beqz  t1, 2b
    addi  s3, t1, '0'
    print "app: second core "
    mv    a1, s3
    jal   t6, put
    print "\r\n"
    .endif

    print "app: end\r\n"
forever:
    wfi
    j     forever

failed:
    print "app: failed\r\n"
    j     forever

    .ifdef SECOND
    # The other core says its number.
second:
    csrr  t0, mhartid
    li    t1, RAM
    sw    t0, 0(t1)
3:  wfi
    j     3b
    .endif

    # Interrupts and exceptions alike.
    .balign 64
handler:
    csrr  t4, mcause
    bltz  t4, 4f
    .ifdef FLOAT
    li    s2, 1
    li    t5, 0x2000
    csrs  mstatus, t5
    mret
    .endif
    j     failed
4:  li    t4, SYSTIMER
    li    t5, 1
    sw    t5, 0x6c(t4)
    addi  s1, s1, 1
    mret

# Prints the text at a0.
puts:
    lbu   a1, 0(a0)
    beqz  a1, 5f
    jal   t6, put
    addi  a0, a0, 1
    j     puts
5:  jalr  zero, 0(ra)

# Sends the byte in a1 when there is room; returns to t6.
put:
    li    t0, UART0
6:  lw    t1, 0x1c(t0)
    srli  t1, t1, 16
    andi  t1, t1, 0xff
    li    t2, 100
    bgeu  t1, t2, 6b
    sw    a1, 0(t0)
    jalr  zero, 0(t6)
