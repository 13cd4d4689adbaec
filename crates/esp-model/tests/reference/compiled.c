/* A small program with everything that an image is made of. Never run. */
typedef unsigned int u32;

struct description {
    u32 magic, secure_version, reserved[2];
    char version[32], project[32], time[16], date[16], idf[32];
    unsigned char elf_sha256[32];
    unsigned short min_block_revision, max_block_revision;
    unsigned char mmu_page_log2, padding[3];
    u32 more[18];
};

#define IN(place) __attribute__((section(place), used))

#if APP_DESCRIPTION
const IN(".flash.appdesc") struct description description = {
    .magic = 0xabcd5432, .version = "1.2.3", .project = "compiled", .time = "10:11:12", .date = "Jan  1 2026",
    .idf = "none", .max_block_revision = 199, .mmu_page_log2 = MMU_PAGE_LOG2,
};
#endif

IN(".dram0.data") u32 table[SCALE] = {1, 2, 3, SCALE};
IN(".dram0.bss") static u32 zeroed[64];
IN(".flash.rodata") const char text[] = "text of the program: " __FILE__;
IN(".flash.rodata") const unsigned char bulk[SCALE * 7 + 1] = {SCALE & 0xff, 2, 3};
IN(".rtc.data") u32 kept = 0x5a5a5a5a;

static inline u32 mix(u32 a, u32 b) { return (a << 5) + (a >> 27) + b; }

IN(".flash.text") __attribute__((noinline)) u32 sum(const u32 *words, u32 count)
{
    u32 total = 0;
    for (u32 i = 0; i < count; i++)
        total = mix(total, words[i]);
    return total + text[total & 7];
}

IN(".flash.text") u32 padding_code(u32 value)
{
#define STEP value = mix(value, 0x9e3779b9) ^ bulk[value & 3];
#define STEPS STEP STEP STEP STEP STEP STEP STEP STEP
    STEPS STEPS STEPS STEPS
#if SCALE > 100
    STEPS STEPS STEPS STEPS STEPS STEPS STEPS STEPS
#endif
    return value;
}

IN(".iram0.text") void call_start_cpu0(void)
{
    for (u32 i = 0;; i++) {
        zeroed[i & 63] = sum(table, sizeof table / sizeof *table) + padding_code(i) + kept;
        *(volatile u32 *)0x60000000 = zeroed[i & 63];
    }
}
