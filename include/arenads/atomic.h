/* SPDX-License-Identifier: MIT */
/*
 * atomic.h - the only door to words that others may touch at the same time.
 *
 *	ads_load            relaxed load, never torn, never repeated by the compiler
 *	ads_peek            as ads_load, for hints in user space: nothing comes of what is read
 *	ads_load_acquire    what follows is not done before it
 *	ads_store           relaxed store
 *	ads_store_release   what came before is visible before it
 *	ads_cas             full barrier; returns the value found
 *	ads_add, ads_xchg   full barrier; return the value before
 *	ads_fence_acquire   loads before it are done before loads after it
 *
 * All on aligned 8-byte words: BPF has no 1-, 2- or 16-byte read-modify-write, and
 * on x86 an arena takes no fetch-and, -or, -xor. User space has besides, for members
 * of records that are no words, ads_load_8(), _16(), _32(), which acquire, and
 * ads_store_8() and so on, which release.
 *
 * Orders on BPF: the byte code is the same for every machine, so the machine is
 * told by libbpf's __TARGET_ARCH_x86. There a load is an acquire and a store is a
 * release, and only the compiler must be held back. Elsewhere clang >= 21 emits
 * load-acquire and store-release (kernel 6.15); without them a read-modify-write
 * whose result is used stands in as a full barrier.
 *
 * A test build defines ADS_POINTS: then every operation first calls ads_point(),
 * where a test switches to another actor, kills the process, or counts.
 */
#ifndef ARENADS_ATOMIC_H
#define ARENADS_ATOMIC_H

#include "arena.h"

enum ads_point_kind {
	ADS_POINT_LOAD,
	ADS_POINT_STORE,
	ADS_POINT_CAS,
	ADS_POINT_ADD,
	ADS_POINT_XCHG,
	ADS_POINT_HAND, /* a store to a line of one's own, see owner.h */
};

#if defined(ADS_POINTS) && !ADS_BPF
/* Set by the test: called before each shared operation of this process. */
static void (*ads_point_hook)(int kind, const volatile void *word);
static inline void ads_point(int kind, const volatile void *word)
{
	if (ads_point_hook)
		ads_point_hook(kind, word);
}
#else
#define ads_point(kind, word) ((void)0)
#endif

#define ads_compiler_barrier() __asm__ volatile("" ::: "memory")

#if ADS_BPF

#if defined(__TARGET_ARCH_x86)
#define ADS_BPF_PLAIN_ORDER 1
#elif defined(__BPF_FEATURE_LOAD_ACQ_STORE_REL)
#define ADS_BPF_ORDERED_INSNS 1
#endif

static ADS_INLINE __u64 ads_load(const __u64 __arena *word)
{
	return *(const volatile __u64 __arena *)word;
}

static ADS_INLINE void ads_store(__u64 __arena *word, __u64 value)
{
	*(volatile __u64 __arena *)word = value;
}

static ADS_INLINE __u64 ads_cas(__u64 __arena *word, __u64 expected, __u64 wanted)
{
	return __sync_val_compare_and_swap(word, expected, wanted);
}

static ADS_INLINE __u64 ads_add(__u64 __arena *word, __u64 delta)
{
	__u64 before = __sync_fetch_and_add(word, delta);

	/* Used, whatever the caller does with it: clang before 20 makes of an add whose result
	 * nobody uses one that returns nothing, and that orders nothing. */
	__asm__ volatile("" ::"r"(before));
	return before;
}

static ADS_INLINE __u64 ads_xchg(__u64 __arena *word, __u64 value)
{
	return __sync_lock_test_and_set(word, value);
}

static ADS_INLINE void ads_fence_acquire(void)
{
#ifdef ADS_BPF_PLAIN_ORDER
	ads_compiler_barrier();
#else
	__u64 slot = 0;
	__u64 used = __sync_fetch_and_add(&slot, 1);
	__asm__ volatile("" ::"r"(used) : "memory");
#endif
}

static ADS_INLINE __u64 ads_load_acquire(const __u64 __arena *word)
{
#if defined(ADS_BPF_ORDERED_INSNS)
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#else
	__u64 value = ads_load(word);
	ads_fence_acquire();
	return value;
#endif
}

static ADS_INLINE void ads_store_release(__u64 __arena *word, __u64 value)
{
#if defined(ADS_BPF_ORDERED_INSNS)
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
#else
	ads_fence_acquire(); /* a full barrier where a compiler barrier is not enough */
	ads_store(word, value);
#endif
}

#else /* user space */

static ADS_INLINE __u64 ads_load(const __u64 *word)
{
	ads_point(ADS_POINT_LOAD, word);
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* No point for tests: it makes no difference when it happens. */
static ADS_INLINE __u64 ads_peek(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static ADS_INLINE __u64 ads_load_acquire(const __u64 *word)
{
	ads_point(ADS_POINT_LOAD, word);
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static ADS_INLINE void ads_store(__u64 *word, __u64 value)
{
	ads_point(ADS_POINT_STORE, word);
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static ADS_INLINE void ads_store_release(__u64 *word, __u64 value)
{
	ads_point(ADS_POINT_STORE, word);
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* As ads_store_release, to a word that only one thread writes: tests choose whether to stop there. */
static ADS_INLINE void ads_store_release_own(__u64 *word, __u64 value)
{
	ads_point(ADS_POINT_HAND, word);
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* C lets a plain store behind a sequentially consistent read-modify-write overtake its
 * store half (load-linked machines do it); the kernel's, and so BPF's, are full barriers. */
#if defined(__x86_64__)
#define ads_full_barrier() ads_compiler_barrier()
#else
#define ads_full_barrier() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

static ADS_INLINE __u64 ads_cas(__u64 *word, __u64 expected, __u64 wanted)
{
	ads_point(ADS_POINT_CAS, word);
	__atomic_compare_exchange_n(word, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ads_full_barrier();
	return expected;
}

static ADS_INLINE __u64 ads_add(__u64 *word, __u64 delta)
{
	__u64 before;

	ads_point(ADS_POINT_ADD, word);
	before = __atomic_fetch_add(word, delta, __ATOMIC_SEQ_CST);
	ads_full_barrier();
	return before;
}

static ADS_INLINE __u64 ads_xchg(__u64 *word, __u64 value)
{
	__u64 before;

	ads_point(ADS_POINT_XCHG, word);
	before = __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
	ads_full_barrier();
	return before;
}

static ADS_INLINE void ads_fence_acquire(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

#define ADS_NARROW(bits)                                                       \
	static ADS_INLINE __u##bits ads_load_##bits(const __u##bits *place)    \
	{                                                                      \
		ads_point(ADS_POINT_LOAD, place);                              \
		return __atomic_load_n(place, __ATOMIC_ACQUIRE);               \
	}                                                                      \
	static ADS_INLINE void ads_store_##bits(__u##bits *place, __u##bits value) \
	{                                                                      \
		ads_point(ADS_POINT_STORE, place);                             \
		__atomic_store_n(place, value, __ATOMIC_RELEASE);              \
	}

ADS_NARROW(8)
ADS_NARROW(16)
ADS_NARROW(32)

#endif

#endif /* ARENADS_ATOMIC_H */
