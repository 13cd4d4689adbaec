# The demonstration's program for the ESP32-C3: greets on UART0, then says a line twice a second, woken by the system timer.
# It needs no library and may lie anywhere. Assembled (see the test `demo::program` of the reference tests):
#   riscv64-unknown-elf-as -march=rv32im_zicsr -mabi=ilp32 program.S -o program.o
#   riscv64-unknown-elf-objcopy -O binary program.o program.bin
    .option norvc
    .option norelax
    .equ UART0, 0x60000000
    .equ RTC, 0x60008000
    .equ TIMG0, 0x6001f000
    .equ SYSTIMER, 0x60023000
    .equ INTERRUPTS, 0x600c2000

start:
    # Nobody serves interrupts here.
    csrci mstatus, 8
    # The watchdogs that ROM and bootloader have left on: RTC, super watchdog (feeds itself), timer group 0.
    lui   t0, %hi(RTC)
    li    t1, 0x50d83aa1
    sw    t1, 0xa8(t0)
    sw    zero, 0x90(t0)
    li    t2, 0x8f1d312a
    sw    t2, 0xb0(t0)
    lw    t2, 0xac(t0)
    lui   t3, 0x80000
    or    t2, t2, t3
    sw    t2, 0xac(t0)
    lui   t0, %hi(TIMG0)
    sw    t1, 0x64(t0)
    sw    zero, 0x48(t0)

    # A text stands behind the jump over it, which leaves its address in a0.
    jal   a0, 1f
    .asciz "demo: hello from a program that runs, by the chip's own ROM and ESP-IDF's bootloader\r\n"
    .balign 4, 0
1:  jal   ra, print

    # Alarm 0 every 8,000,000 ticks of 16 MHz, its source (37) on line 1. The line is never taken: it only ends WFI.
    lui   s0, %hi(SYSTIMER)
    li    t1, 0x40000000 + 8000000
    sw    t1, 0x34(s0)
    li    t1, 1
    sw    t1, 0x50(s0)
    lw    t2, 0(s0)
    lui   t3, 0x1000
    or    t2, t2, t3
    sw    t2, 0(s0)
    sw    t1, 0x64(s0)
    lui   t0, %hi(INTERRUPTS)
    sw    t1, 0x94(t0)
    sw    t1, 0x118(t0)
    sw    t1, 0x194(t0)
    li    t2, 2
    sw    t2, 0x104(t0)

    li    s1, 0
beat:
    wfi
    li    t1, 1
    sw    t1, 0x6c(s0)
    jal   a0, 1f
    .asciz "demo: beat "
    .balign 4, 0
1:  jal   ra, print
    addi  s1, s1, 1
    li    t1, 10
    remu  a1, s1, t1
    addi  a1, a1, '0'
    jal   t6, put
    jal   a0, 1f
    .asciz "\r\n"
    .balign 4, 0
1:  jal   ra, print
    j     beat

# Prints the text at a0.
print:
    lbu   a1, 0(a0)
    beqz  a1, 2f
    jal   t6, put
    addi  a0, a0, 1
    j     print
2:  jalr  zero, 0(ra)

# Sends the byte in a1 when there is room; returns to t6.
put:
    lui   t0, %hi(UART0)
3:  lw    t1, 0x1c(t0)
    srli  t1, t1, 16
    andi  t1, t1, 0x3ff
    li    t2, 100
    bgeu  t1, t2, 3b
    sw    a1, 0(t0)
    jalr  zero, 0(t6)
