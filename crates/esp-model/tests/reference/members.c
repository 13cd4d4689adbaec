/* Structures and pointers to them: what a null pointer with an offset means. Never run. */
typedef unsigned int u32;

struct limits { u32 low, high; };
struct reading { u32 count; struct limits limits[3]; union { u32 raw; float scaled; }; struct reading *next; };
struct station { char name[12]; struct reading *last; };
typedef const struct reading *reading_t;

struct station here;
static struct station *current;

__attribute__((noinline, section(".iram0.text"))) u32 high(const struct reading *reading, u32 which)
{
    return reading->limits[which & 1].high + reading->limits[2].high;
}

__attribute__((noinline, section(".iram0.text"))) u32 last_raw(struct station *station)
{
    return station->last->raw;
}

__attribute__((noinline, section(".iram0.text"))) u32 of_current(void)
{
    return current->last != 0;
}

__attribute__((section(".iram0.text"), used)) void call_start_cpu0(void)
{
    for (u32 i = 0;; i++) {
        current = i & 1 ? &here : 0;
        *(volatile u32 *)0x60000000 = high(here.last, i) + last_raw(&here) + of_current();
    }
}
