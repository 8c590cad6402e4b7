/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the loops of the benchmark's programs: each of ours has a twin over a kernel map.
 *
 * Both come to the same entries in the same order, which lies in the arena as numbers, one after
 * the other:
 *
 *	run->order --> | number | number | ... | number |	run->length of them
 *	                           ^ run->position		from where it goes on, around the end
 *
 * What a loop finds it adds to run->sum, so that nothing is optimised away and both sides can be
 * compared.
 *
 * The kernel ends the loops of a program that runs too long: after some 250 ms, which other
 * processes may have used. Then run->operations says how far it came, and the rest is run anew.
 */
#ifndef ARENADS_BENCH_H
#define ARENADS_BENCH_H

#include <arenads/bpf.h>

ADS_ARENA(4 * ADS_GIB);

struct bench_run {
	__u64 operations; /* how many to do; then how many were done before the loop budget ran out */
	__u64 nanoseconds; /* what they took */
	__u64 sum;
	__u64 start;    /* when to begin, so that several CPUs do it together; then when it began */
	__u32 order;    /* offset in the arena */
	__u32 length;
	__u32 position;
	__u32 portion;  /* operations before something is put back, see BENCH_TURNS() */
};

/* In a key's number: no entry has it. */
#define BENCH_ABSENT (1u << 31)

#define bench_number(run, position) (*ads_at(ads_here(), const __u32, (run)->order + 4 * (position)))

static __always_inline __u32 bench_wrap(const struct bench_run *run, __u32 position)
{
	return position < run->length ? position : position - run->length;
}

static __always_inline __u64 bench_begin(const struct bench_run *run)
{
	while (bpf_ktime_get_ns() < run->start && ads_may_loop())
		;
	return bpf_ktime_get_ns();
}

/* Take memory for an order: run->length numbers, whose place is run->order then. */
SEC("syscall") int bench_reserve(struct bench_run *run)
{
	void __arena *block = ads_block(ads_here(), 4ull * run->length);

	run->order = (__u32)(unsigned long)block;
	return block ? ADS_OK : ADS_NO_MEMORY;
}

/* A value for each CPU, to be stored or to copy to: on the stack there may be no room for it. */
#define BENCH_CPUS 8
#define BENCH_FRESH(type)                                                      \
	struct {                                                               \
		type value;                                                    \
		__u64 apart[16];                                               \
	} bench_values[BENCH_CPUS];                                            \
	static __always_inline type *bench_fresh(void)                         \
	{                                                                      \
		return &bench_values[bpf_get_smp_processor_id() % BENCH_CPUS].value; \
	}                                                                      \
	struct bench_run

/* A program that does `body` for run->operations numbers. */
#define BENCH_LOOP(name, body)                                                 \
	SEC("syscall") int name(struct bench_run *run)                         \
	{                                                                      \
		__u64 operations = run->operations, sum = 0, start, i;         \
		__u64 zero = ads_unknown_zero(); /* to add, where what is found has to stay */ \
		__u32 position = run->position;                                \
		(void)ads_here();                                              \
		(void)zero;                                                    \
		start = bench_begin(run);                                      \
		for (ads_each(i, operations)) {                                \
			__u32 number = bench_number(run, position);            \
			(void)number;                                          \
			position = bench_wrap(run, position + 1);              \
			body                                                   \
		}                                                              \
		run->nanoseconds = bpf_ktime_get_ns() - start;                 \
		run->operations = i;                                           \
		run->start = start;                                            \
		run->position = position;                                      \
		run->sum = sum;                                                \
		return ADS_OK;                                                 \
	}

/*
 * A program that inserts and deletes in turn, a portion of each, and measures one of both. Between
 * two runs, 2 * portion numbers from `position` on are absent:
 *
 *	... present | absent | absent | present | present ...
 *	             ^ position            ^ + 2 * portion
 *	             insert these          delete these
 *
 * What is inserted was deleted two portions before, so that it is no warmer than the rest.
 */
#define BENCH_TURNS(name, measured, measured_from, other, other_from)          \
	SEC("syscall") int name(struct bench_run *run)                         \
	{                                                                      \
		__u64 done = ads_unknown_zero(), took = 0, sum = 0, began, start, i; \
		__u32 portion = run->portion, position = run->position, at;    \
		began = bench_begin(run);                                      \
		while (done < run->operations && ads_may_loop()) {             \
			at = bench_wrap(run, position + measured_from * portion); \
			start = bpf_ktime_get_ns();                            \
			for (ads_each(i, portion)) {                           \
				__u32 number = bench_number(run, at);          \
				(void)number;                                  \
				at = bench_wrap(run, at + 1);                  \
				measured                                       \
			}                                                      \
			took += bpf_ktime_get_ns() - start;                    \
			at = bench_wrap(run, position + other_from * portion); \
			for (ads_each(i, portion)) {                           \
				__u32 number = bench_number(run, at);          \
				(void)number;                                  \
				at = bench_wrap(run, at + 1);                  \
				other                                          \
			}                                                      \
			if (i != portion)                                      \
				return ADS_BUDGET;                             \
			position = bench_wrap(run, position + portion);        \
			done += portion;                                       \
		}                                                              \
		run->nanoseconds = took;                                       \
		run->operations = done;                                        \
		run->start = began;                                            \
		run->position = position;                                      \
		run->sum = sum;                                                \
		return ADS_OK;                                                 \
	}

#endif /* ARENADS_BENCH_H */
