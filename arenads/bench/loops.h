/* SPDX-License-Identifier: MIT */
/*
 * loops.h - the benchmark's loops in user space: each of ours has a twin that asks the kernel.
 *
 * As in bpf_progs/bench.h both come to the same entries in the same order. What a loop finds it
 * adds to run->sum. loops.py calls these.
 */
#ifndef ARENADS_BENCH_LOOPS_H
#define ARENADS_BENCH_LOOPS_H

#include <arenads/user.h>
#include <time.h>

struct bench_target {
	struct ads_arena *arena;
	void *mapped;    /* the peer's elements, if it is mapped here */
	__u32 structure; /* offset in the arena */
	__s32 fd;	 /* the peer */
	__u64 ours[32];  /* how far each iteration has come; zero: at the beginning */
	__u64 peer[32];
	__u64 batch[32];
};

struct bench_run {
	__u64 operations;
	__u64 nanoseconds;
	__u64 sum;
	const __u32 *order;
	__u32 length;
	__u32 position; /* in the order: from where it goes on, around the end */
	__u32 portion;  /* operations before something is put back, see BENCH_TURNS() */
	__u32 pad;
	__u64 start;    /* not before, on bench_now()'s clock; then when it was */
};

/* In a key's number: no entry has it. */
#define BENCH_ABSENT (1u << 31)

static inline __u64 bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

/* The time when a run begins: threads that are to run at the same time were told when. */
static inline __u64 bench_begin(struct bench_run *run)
{
	__u64 now;

	do
		now = bench_now();
	while (now < run->start);
	run->start = now;
	return now;
}

static inline __u32 bench_wrap(const struct bench_run *run, __u32 position)
{
	return position < run->length ? position : position - run->length;
}

/* A function that does `body` for run->operations numbers; 0, or what the last failure was. */
#define BENCH_LOOP(name, body)                                                 \
	int name(struct bench_target *to, struct bench_run *run)               \
	{                                                                      \
		__u64 sum = 0, i, start = bench_begin(run);                    \
		__u32 position = run->position;                                \
		(void)to;                                                      \
		for (i = 0; i < run->operations; i++) {                        \
			__u32 number = run->order[position];                   \
			position = bench_wrap(run, position + 1);              \
			body                                                   \
		}                                                              \
		run->nanoseconds = bench_now() - start;                        \
		run->position = position;                                      \
		run->sum = sum;                                                \
		return 0;                                                      \
	}

/* Inserts and deletes portions in turn, and measures one of both: bpf_progs/bench.h has a picture. Both are
 * functions that do run->portion numbers from a position on and return how many they could. */
#define BENCH_TURNS(name, measured, measured_from, other, other_from)          \
	int name(struct bench_target *to, struct bench_run *run)               \
	{                                                                      \
		__u64 done, took = 0, sum = 0, start;                          \
		__u32 position = run->position, portion = run->portion;        \
		(void)bench_begin(run);                                        \
		for (done = 0; done < run->operations; done += portion) {      \
			start = bench_now();                                   \
			sum += measured(to, run, bench_wrap(run, position + measured_from * portion)); \
			took += bench_now() - start;                           \
			sum += other(to, run, bench_wrap(run, position + other_from * portion)); \
			position = bench_wrap(run, position + portion);        \
		}                                                              \
		run->nanoseconds = took;                                       \
		run->position = position;                                      \
		run->sum = sum;                                                \
		return 0;                                                      \
	}

/* --- the bpf() system call ---------------------------------------------------------------------- */

enum bench_command {
	BENCH_LOOKUP = 1,
	BENCH_UPDATE = 2,
	BENCH_DELETE = 3,
	BENCH_NEXT = 4,
	BENCH_LOOKUP_BATCH = 24,
	BENCH_LOOKUP_AND_DELETE_BATCH = 25,
	BENCH_UPDATE_BATCH = 26,
	BENCH_DELETE_BATCH = 27,
};

enum bench_mode { BENCH_ANY = 0, BENCH_NEW = 1, BENCH_EXISTING = 2 };

/* One key and one value, or the next key. */
static inline int bench_element(int command, int fd, const void *key, void *value, __u64 mode)
{
	struct {
		__u32 fd, pad;
		__u64 key, value, mode;
	} attr = {(__u32)fd, 0, (__u64)(unsigned long)key, (__u64)(unsigned long)value, mode};

	return ads_bpf(command, &attr, sizeof(attr));
}

/* Many of both: *count says how many, and then how many were done. */
static inline int bench_batch(int command, int fd, const void *from, void *to, void *keys, void *values, __u32 *count)
{
	struct {
		__u64 from, to, keys, values;
		__u32 count, fd;
		__u64 mode, flags;
	} attr = {(__u64)(unsigned long)from,
		  (__u64)(unsigned long)to,
		  (__u64)(unsigned long)keys,
		  (__u64)(unsigned long)values,
		  *count,
		  (__u32)fd,
		  0,
		  0};
	int rc = ads_bpf(command, &attr, sizeof(attr));

	*count = attr.count;
	return rc;
}

/* --- another process's work, on another CPU ----------------------------------------------------- */

/* What a neighbour is to do, and what it does; each on its own line. */
struct bench_neighbour {
	__u32 wanted __attribute__((aligned(64))); /* 0: nothing, else 1 + index of a function; BENCH_STOP */
	__u32 doing __attribute__((aligned(64)));
	__u64 done;
};

#define BENCH_STOP (~0u)

typedef int (*bench_function)(struct bench_target *to, struct bench_run *run);

/* Do one operation each `interval` nanoseconds of what is wanted, until that is BENCH_STOP. */
static inline void bench_accompany(struct bench_neighbour *neighbour, const bench_function *functions,
				   struct bench_target *to, struct bench_run *run, __u64 interval)
{
	__u64 next = bench_now();

	run->operations = 1;
	for (;;) {
		__u32 wanted = __atomic_load_n(&neighbour->wanted, __ATOMIC_ACQUIRE);

		__atomic_store_n(&neighbour->doing, wanted, __ATOMIC_RELEASE);
		if (wanted == BENCH_STOP)
			return;
		if (!wanted) {
			struct timespec nap = {0, 100000};

			nanosleep(&nap, 0);
			next = bench_now();
			continue;
		}
		functions[wanted - 1](to, run);
		neighbour->done++;
		/* Not faster after having been late: that would be another load. */
		next = next + interval < bench_now() ? bench_now() : next + interval;
		while (bench_now() < next)
			;
	}
}

#endif /* ARENADS_BENCH_LOOPS_H */
