/* The application: one request a line, one answer a line. It reads and writes nothing of the
 * kernel's, so that the same code runs in ring 0 and in ring 3.
 *
 *   GET /NAME   200 hello from ring N     and two faults to be found:
 *     a NAME of more than 31 bytes is copied over the end of a buffer on the stack (a canary
 *     notices), and
 *   NEST        recursion through more stack than there is (a guard page notices): 200 nested
 *   WHERE       200 code ADDRESS stack ADDRESS heap ADDRESS journal ADDRESS
 */
#include "app.h"

#define LINE_SIZE 128
#define NAME_SIZE 32
#define WORK_WAITING 6 /* rounds of 8191 steps: most of the time is the application's */
#define WORK_REQUEST 128
#define NEST_DEPTH 24 /* frames of 1 KiB: beyond the stack and the gap, not through the journal */

struct layout app_layout;
#ifdef __x86_64__
struct thread app_thread;
#endif
static u64 journal_used;

/* From ring 3 by SYSCALL or SVC; in ring 0 a call is a function's, as in most unikernels. */
static u64 call(u64 number, u64 argument) {
#if RING3 && defined(__aarch64__)
    register u64 result __asm__("x0") = number;
    register u64 second __asm__("x1") = argument;
    __asm__ volatile("svc #0" : "+r"(result), "+r"(second) : : "memory", "cc");
    return result;
#elif RING3
    u64 result;
    __asm__ volatile("syscall"
                     : "=a"(result), "+D"(number), "+S"(argument)
                     :
                     : "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
    return result;
#else
    return kernel_call(number, argument);
#endif
}

/* The ring that this runs in, by the processor: EL0 of aarch64 may not ask, the kernel sees. */
static u64 ring(void) {
#ifdef __aarch64__
    return call(CALL_RING, 0);
#else
    u16 cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    return cs & 3;
#endif
}

#ifdef __SSP_ALL__
/* GCC's canaries end here: a name of this file alone, for the kernel has its own. */
__attribute__((noreturn, used)) static void smashed(void) __asm__("__stack_chk_fail");
static void smashed(void) {
    call(CALL_SMASHED, 0);
    __builtin_unreachable();
}
#endif

static void say(const char *text) {
    while (*text)
        call(CALL_WRITE, *text++);
}

static void say_address(const char *name, u64 address) {
    say(name);
    say(" 0x");
    for (int shift = 60; shift >= 0; shift -= 4)
        call(CALL_WRITE, "0123456789abcdef"[address >> shift & 15]);
}

/* What keeps the application busy: checksums over its heap. */
static void work(int rounds) {
    volatile u64 *heap = (volatile u64 *)app_layout.heap;
    u64 sum = 0;
    for (int round = 0; round < rounds; round++)
        for (u64 i = 1; i < WORK_SIZE / sizeof *heap; i++)
            sum = (sum ^ heap[i]) * 0x100000001b3UL;
    heap[0] = sum;
}

/* A line without its end; what does not fit is thrown away. */
static void read_line(char *line) {
    u64 length = 0;
    for (;;) {
        int byte = call(CALL_READ, 0);
        if (byte == '\n')
            break;
        if (byte >= 0 && length < LINE_SIZE - 1)
            line[length++] = byte;
        if (byte < 0 && SLEEP)
            call(CALL_SLEEP, 0);
        else if (byte < 0)
            work(WORK_WAITING);
    }
    line[length] = 0;
}

/* The journal of requests: starts again when it is full. */
static void write_down(const char *line) {
    char *journal = (char *)app_layout.journal;
    while (*line)
        journal[journal_used++ % JOURNAL_SIZE] = *line++;
    journal[journal_used++ % JOURNAL_SIZE] = '\n';
}

static int starts(const char *line, const char *word) {
    while (*word)
        if (*line++ != *word++)
            return 0;
    return 1;
}

/* Faulty on purpose: `name` may be longer than its copy. */
__attribute__((noinline)) static void greet(const char *name) {
    volatile char copy[NAME_SIZE];
    for (u64 i = 0; (copy[i] = name[i]); i++)
        ;
    u64 number = ring();
    work(WORK_REQUEST);
    say("200 hello from ring ");
    call(CALL_WRITE, '0' + number);
    say("\n");
}

/* Faulty on purpose: uses more stack than there is. */
__attribute__((noinline)) static u64 nest(int depth) {
    volatile u8 frame[1024];
    frame[0] = depth;
    u64 below = depth ? nest(depth - 1) : 0;
    return below + frame[0];
}

static void answer(const char *line) {
    if (starts(line, "GET /"))
        greet(line + 5);
    else if (starts(line, "NEST")) {
        nest(NEST_DEPTH);
        say("200 nested\n");
    } else if (starts(line, "WHERE")) {
        say_address("200 code", app_layout.code);
        say_address(" stack", app_layout.stack);
        say_address(" heap", app_layout.heap);
        say_address(" journal", app_layout.journal);
        say("\n");
    } else
        say("404 not found\n");
}

__attribute__((noreturn)) void app_main(void) {
    char line[LINE_SIZE];
    for (;;) {
        read_line(line);
        write_down(line);
        answer(line);
    }
}
