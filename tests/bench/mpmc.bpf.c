/* SPDX-License-Identifier: GPL-2.0 */
/* The same loops over an MPMC ring in the arena and over a kernel ring buffer. */
#include <arenads/bpf.h>

struct record {
	__u64 word[8];
};

ADS_ARENA(64 * ADS_MIB);
ADS_MPMC(queue, struct record, 8192);

struct {
	__uint(type, 27); /* BPF_MAP_TYPE_RINGBUF */
	__uint(max_entries, 1024 * 1024);
} theirs SEC(".maps");

#define NO_WAKEUP 1 /* BPF_RB_NO_WAKEUP */

struct args {
	__u64 rounds;
	__u64 nanoseconds;
	__u64 done;  /* records that were taken or given */
	__u64 start; /* when to begin, so that two CPUs do it together; then when it began */
};

#define LOOP(name, body)                                                       \
	SEC("syscall") int name(struct args *ctx)                              \
	{                                                                      \
		__u64 rounds = ctx->rounds, done = 0, start = ctx->start, i;   \
		(void)ads_here();                                              \
		while (bpf_ktime_get_ns() < start && ads_may_loop())           \
			;                                                      \
		start = bpf_ktime_get_ns();                                    \
		for (ads_each(i, rounds)) {                                    \
			struct record record = {{i, i, i, i, i, i, i, i}};     \
			asm volatile("" ::"r"(&record) : "memory");            \
			body                                                   \
		}                                                              \
		ctx->nanoseconds = bpf_ktime_get_ns() - start;                 \
		ctx->start = start;                                            \
		ctx->done = done;                                              \
		return 0;                                                      \
	}

LOOP(ours_push, { done += !queue_push(&record); })
LOOP(theirs_push, {
	struct record *room = bpf_ringbuf_reserve(&theirs, sizeof(record), 0);

	if (room) {
		*room = record;
		bpf_ringbuf_submit(room, NO_WAKEUP);
		done++;
	}
})

char LICENSE[] SEC("license") = "GPL";
