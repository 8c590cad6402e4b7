/* SPDX-License-Identifier: MIT */
/*
 * arena.h - address space, errors, budgets: what both sides call the same way.
 *
 * An arena is up to 4 GiB of shared pages. Its base, the user address of its first
 * byte, is a multiple of 4 GiB, so the low 32 bits of a pointer are its offset:
 *
 *	user form   0x 0000 2a7c | 0001 f040      stored in memory
 *	             base >> 32     offset         what BPF dereferences
 *
 * Structures store offsets in their link words; whoever follows one turns it into a
 * pointer with ads_at(). User space first asks ads_bad() whether the offset can be
 * followed: arena memory is shared, so it may hold anything.
 */
#ifndef ARENADS_ARENA_H
#define ARENADS_ARENA_H

#ifdef __bpf__
#define ADS_BPF 1
#else
#define ADS_BPF 0
#ifndef _GNU_SOURCE /* mmap flags, madvise, syscall, sched_getcpu */
#define _GNU_SOURCE 1
#endif
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__GLIBC__) && !defined(__USE_GNU)
#error "arenads: define _GNU_SOURCE before the first system header, or include arenads first"
#endif
#endif

/* The kernel's own spellings; repeating a typedef identically is allowed. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;

#ifdef __cplusplus
#define ADS_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define ADS_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define ADS_INLINE inline __attribute__((always_inline, unused))
/* In BPF it is emitted whether it is called or not: else, where no caller looks at the result, compilers
 * return none, and what is in its register then may be an address, which the verifier refuses. */
#ifdef __bpf__
#define ADS_NOINLINE __attribute__((noinline, used))
#else
#define ADS_NOINLINE __attribute__((noinline, unused))
#endif
/* A function that is long and seldom called. In BPF it is verified on its own. */
#ifdef __bpf__
#define ADS_GLOBAL __attribute__((noinline, weak, unused))
#else
#define ADS_GLOBAL static __attribute__((noinline, unused))
#endif
#define ADS_LIKELY(x) __builtin_expect(!!(x), 1)
#define ADS_UNLIKELY(x) __builtin_expect(!!(x), 0)

#if ADS_BPF
#ifndef __arena
#define __arena __attribute__((address_space(1)))
#endif
#else
#ifndef __arena
#define __arena
#endif
#endif

#define ADS_PAGE_SIZE 4096u
#define ADS_KIB (1ull << 10)
#define ADS_MIB (1ull << 20)
#define ADS_GIB (1ull << 30)
#define ADS_MAX_SIZE (4ull * ADS_GIB)
#define ADS_LINE 64u /* bytes in a cache line; objects start on one */

/*
 * What an operation returns: 0, or one of these. The numbers are errno's, negative,
 * so that they read the same in C, in BPF and in Python. Each case has its own.
 */
enum ads_error {
	ADS_OK = 0,
	ADS_ABSENT = -2,    /* ENOENT: no such key, no more entries, nothing queued */
	ADS_LOST = -11,	    /* EAGAIN: inside only, where a walk began has gone; no operation returns it */
	ADS_NO_MEMORY = -12, /* ENOMEM: the arena has no populated memory left */
	ADS_LINKED = -16,   /* EBUSY: the node is in a list already */
	ADS_EXISTS = -17,   /* EEXIST: the key is there already */
	ADS_INVALID = -22,  /* EINVAL: an argument that no call can mean */
	ADS_FULL = -28,     /* ENOSPC: max_entries are in use */
	ADS_READ_ONLY = -30, /* EROFS: a write through a read-only mapping */
	ADS_BUDGET = -40,   /* ELOOP: the loop budget ran out before the answer */
	ADS_WRONG_ABI = -71, /* EPROTO: an arena of another ABI version */
	ADS_WRONG_ORDER = -84, /* EILSEQ: an arena of the other byte order */
	ADS_BASE_TAKEN = -98, /* EADDRINUSE: the arena's addresses are in use here */
	ADS_WRONG_TYPE = -124, /* EMEDIUMTYPE: not an arena */
	ADS_REMOVED = -116, /* ESTALE: the structure was removed from the arena */
	ADS_DAMAGED = -117, /* EUCLEAN: arena memory cannot be what it claims */
	ADS_TOO_LONG = -90, /* EMSGSIZE: a record longer than the ring can hold */
	ADS_NOT_RESERVED = -77, /* EBADFD: a commit without a reservation */
};

enum ads_arena_flags {
	ADS_READONLY = 1, /* mapped PROT_READ: every mutation is refused */
	ADS_CLOSED = 2,   /* retired: what is mapped there is no arena any more */
};

/*
 * One process's view of an arena. Private memory: nothing here is shared, so it can
 * be trusted. BPF needs none of it, the verifier and the JIT know the arena.
 */
struct ads_arena {
	char *base;        /* user address of offset 0 */
	__u64 size;        /* bytes mapped */
	__u64 limit;       /* offsets below have been seen populated; only grows */
	__u64 damaged_at;  /* offset that made the last ADS_DAMAGED; of ADS_NO_MEMORY the bytes wanted */
	__u64 id;          /* creation id, from the root */
	__s32 fd;
	__u32 flags;       /* enum ads_arena_flags */
};

/*
 * Loops. Each is bounded and ends in one of two ways: the body returns or breaks with an
 * answer, or the loop ends by itself and the line after it says ADS_BUDGET. In BPF the
 * kernel bounds it (may_goto: about 8 M iterations and 250 ms for one run of a program),
 * in user space ADS_USER_STEPS does. A program that wants less defines ADS_BUDGET_STEPS.
 */
#define ADS_USER_STEPS (1u << 26)
#define ADS_USER_RETRIES (1u << 16)

/* A zero that the verifier does not know is read from the arena, but not from offsets that a
 * forgotten NULL check writes to: the verifier lets a program write through a NULL arena
 * pointer, and then the padding at offset 0 takes the blow. */
#define ADS_ZERO_OFFSET 1008

#if ADS_BPF
/*
 * What the verifier looks at again in a loop is what it has not seen in a state like it. A loop ends for it
 * soon if all that goes round is of unknown value from the first time on, 64 bits wide: ads_unknown(x) is x,
 * of which it knows nothing; and if nothing that goes round is known to be equal: after ads_unlike(x) that is
 * forgotten.
 */
#define ads_unknown(x) ((__u64)(x) ^ *(const volatile __u64 __arena *)ADS_ZERO_OFFSET)
#define ads_unlike(x) __asm__ volatile("%0 |= 0" : "+r"(x))

/* True while the kernel lets the loop go on. The asm goto has no operands that
 * change, so it is the kernel's hidden counter that ends the loop. */
#define ads_may_loop()                                                         \
	({                                                                     \
		__label__ spent, on;                                           \
		int ok = 1;                                                    \
		asm volatile goto("may_goto %l[spent]" ::::spent);             \
		goto on;                                                       \
	spent:                                                                 \
		ok = 0;                                                        \
	on:;                                                                   \
		ok;                                                            \
	})

/* Address casts cost one instruction or none; offsets become pointers for free. */
#define ads_at(arena, type, offset) ((void)(arena), (type __arena *)(unsigned long)(__u32)(offset))
/* The same of a word whose upper half is 0: to be sure of that takes instructions, and here a dereference
 * does not look at it. */
#define ads_at_word(arena, type, word) ((void)(arena), (type __arena *)(unsigned long)(word))
/* BPF loads outside populated memory read 0 and stores vanish: no check is needed
 * for safety, and the bound on every loop ends a walk that went astray. */
#define ads_bad(arena, offset, bytes) ((void)(arena), (void)(offset), (void)(bytes), 0)
#define ads_writable(arena) ((void)(arena), 1)
#else
#define ads_may_loop() 1
#define ads_unknown(x) ((__u64)(x))
#define ads_unlike(x) ((void)(x))

#define ads_at(arena, type, offset) ((type *)((arena)->base + (__u32)(offset)))
#define ads_at_word(arena, type, word) ads_at(arena, type, word)
#define ads_writable(arena) (!((arena)->flags & ADS_READONLY))

/* ads_bad() for user space is in layout.h: it looks at the populated mark. */
#endif

/* Where to count from: from a known value a loop would be walked iteration by iteration. */
static ADS_INLINE __u32 ads_unknown_zero(void)
{
	return (__u32)ads_unknown(0);
}

/*
 * The head of a bounded loop: `for (ads_loop(i))`, and `for (ads_each(i, n))` for i below n. ads_retry(i) is for
 * what is done anew because another was faster, and walks each time: nobody loses so often, but damaged memory
 * can say so for ever.
 */
#define ads_each(i, n) i = ads_unknown_zero(); i < (n) && ads_may_loop(); i++
#ifdef ADS_BUDGET_STEPS
#define ADS_STEPS ADS_BUDGET_STEPS
#define ads_loop(i) ads_each(i, ADS_STEPS)
#define ads_retry(i) ads_loop(i)
#elif ADS_BPF
#define ads_loop(i) i = 0; ads_may_loop(); (void)i
#define ads_retry(i) ads_loop(i)
#else
#define ADS_STEPS ADS_USER_STEPS
#define ads_loop(i) ads_each(i, ADS_STEPS)
#define ads_retry(i) ads_each(i, ADS_USER_RETRIES)
#endif

/* `i = ads_once(); do { ... } while (ads_again(i))`, for bodies that seldom run twice: those that
 * run once then pay nothing for the loop. */
#ifdef ADS_BUDGET_STEPS
#define ads_once() ads_unknown_zero()
#define ads_again(i) (++(i) < ADS_BUDGET_STEPS && ads_may_loop())
#elif ADS_BPF
#define ads_once() 0
#define ads_again(i) ((void)(i), ads_may_loop())
#else
#define ads_once() 0
#define ads_again(i) (++(i) < ADS_USER_STEPS)
#endif

#endif /* ARENADS_ARENA_H */
