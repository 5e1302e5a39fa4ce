/* The only program of a stock Linux: answers each line on its serial line, and works for a while
 * before it does. No library: system calls of include/uapi/asm-generic/unistd.h. WX=1 maps one page
 * that it can write and execute; PIE or not is an option of the compiler. */
#define IOCTL 29
#define MKDIRAT 34
#define MOUNT 40
#define OPENAT 56
#define READ 63
#define WRITE 64
#define MMAP 222
#define CWD (-100L)
#define TCGETS 0x5401
#define TCSETS 0x5402
#define ECHO 8
#define READ_WRITE 2
#define HEAP_SIZE (256UL << 10)

static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = 0;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}

static void *map(unsigned long size, long rights) {
    return (void *)call(MMAP, 0, size, rights, 0x22 /* private, anonymous */, -1);
}

/* struct termios of include/uapi/asm-generic/termbits.h: the fourth word is c_lflag. */
static void silence(long tty) {
    unsigned int settings[9];
    call(IOCTL, tty, TCGETS, (long)settings, 0, 0);
    settings[3] &= ~ECHO;
    call(IOCTL, tty, TCSETS, (long)settings, 0, 0);
}

static unsigned long work(volatile unsigned long *heap) {
    unsigned long sum = 1;
    for (int round = 0; round < 8; round++)
        for (unsigned long i = 0; i < HEAP_SIZE / sizeof *heap; i++)
            heap[i] = sum = (sum ^ heap[i]) * 0x100000001b3UL | 1;
    return sum;
}

__attribute__((noreturn, used)) void begin(void) {
    static char line[256] = "answer ";
    call(MKDIRAT, CWD, (long)"/dev", 0755, 0, 0);
    call(MOUNT, (long)"none", (long)"/dev", (long)"devtmpfs", 0, 0);
    long tty = call(OPENAT, CWD, (long)"/dev/ttyAMA0", READ_WRITE, 0, 0);
    silence(tty);
    unsigned long *heap = map(HEAP_SIZE, 3);
    if (WX)
        *(unsigned long *)map(4096, 7) = 1;
    for (;;) {
        long length = call(READ, tty, (long)line + 7, sizeof line - 7, 0, 0);
        if (length > 0 && work(heap))
            call(WRITE, tty, (long)line, length + 7, 0, 0);
    }
}

__asm__(".globl _start\n_start: mov x29, #0\n mov x30, #0\n b begin\n");
