/* A program to be stopped anywhere: inlined functions, recursion, callbacks, values of all sizes. It runs under an
   emulator of user programs; nothing outside of it is called. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum colour { RED = 1, GREEN = 5, BLUE = 0x7000 };
struct point { short x, y; };
struct node { struct node *next; const char *name; u32 weight; enum colour colour; };

#define NOINLINE __attribute__((noinline, noclone))

static volatile u32 sink;
static volatile u64 wide;
static const char *const names[] = {"alpha", "beta", "gamma", "delta"};
static struct node nodes[4];

static inline u32 rotate(u32 value, int by)
{
    u32 turned = value << by | value >> (32 - by);
    return turned ^ sink;
}

static inline u32 twice(u32 value)
{
    u32 first = rotate(value, 7);
    u32 second = rotate(first, 11);
    sink = second;
    return first + second;
}

NOINLINE static u32 leaf(u8 small, u16 half, signed char sign, _Bool flag)
{
    u32 sum = small + half * 3;
    if (flag)
        sum -= sign;
    sink += sum;
    return sum;
}

NOINLINE static u64 wider(u64 value, short step)
{
    u64 product = value * 0x100000001b3ull + step;
    wide = product;
    for (int turn = 0; turn < 3; turn++) {
        u64 shifted = product >> turn;
        wide ^= shifted;
    }
    return product ^ (value >> 3);
}

NOINLINE static int compare(const struct point *left, const struct point *right)
{
    int distance = left->x - right->x;
    if (distance == 0)
        distance = left->y - right->y;
    sink += distance;
    return distance;
}

NOINLINE static u32 walk(const struct node *node, int (*order)(const struct point *, const struct point *))
{
    u32 total = 0;
    while (node) {
        struct point here = {(short)node->weight, 3}, there = {9, (short)total};
        if (order(&here, &there) < 0)
            total += twice(node->weight);
        else
            total ^= leaf((u8)total, (u16)node->weight, -5, node->colour == GREEN);
        sink += node->name[0];
        node = node->next;
    }
    return total;
}

NOINLINE static u32 recurse(u32 depth, u32 carried)
{
    u32 own[5];
    for (u32 i = 0; i < 5; i++)
        own[i] = carried * (i + depth);
    if (depth == 0)
        return walk(&nodes[0], compare) + own[carried % 5];
    u32 below = recurse(depth - 1, own[depth % 5] + carried);
    sink += own[below % 5];
    return below + own[0];
}

NOINLINE static u32 many(u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g, u32 h, u32 ninth, u32 tenth)
{
    u8 grown[(a & 15) + 4];
    for (u32 i = 0; i < sizeof grown; i++)
        grown[i] = (u8)(i * tenth);
    u32 both = leaf(grown[a & 3], (u16)(b + ninth), (signed char)c, d & 1) + e + f + g + h;
    return both + grown[b & 3];
}

NOINLINE static void choose(enum colour colour, u32 round)
{
    static u32 calls;
    calls++;
    switch (colour) {
    case RED: sink += recurse(round % 4, round); break;
    case GREEN: sink += many(round, 2, 3, 4, 5, 6, 7, 8, calls, 10); break;
    default: sink += (u32)wider(round, (short)calls); break;
    }
}

NOINLINE int main(void)
{
    for (u32 i = 0; i < 4; i++) {
        nodes[i].next = i < 3 ? &nodes[i + 1] : 0;
        nodes[i].name = names[i];
        nodes[i].weight = i * 5;
        nodes[i].colour = i & 1 ? GREEN : BLUE;
    }
    for (u32 round = 0;; round++) {
        choose(RED, round);
        choose(GREEN, round);
        choose(BLUE, round);
    }
}

__attribute__((naked, noreturn)) void _start(void)
{
    __asm__ volatile(".cfi_undefined ra\n.option push\n.option norelax\n\tla gp, __global_pointer$\n.option pop\n\tli ra, 0\n\tli s0, 0\n"
                     "\tcall main\n1:\tj 1b");
}
