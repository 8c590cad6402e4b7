/* SPDX-License-Identifier: MIT */
/*
 * soak.bpf.c - the side that is never killed: operations from a syscall program that user space
 * runs over and over, from every context switch and process exit, and from interrupts in the
 * middle of anything. Each code that an operation ends with is counted in the map `codes`.
 */
#include "soak.h"

char LICENSE[] SEC("license") = "GPL";

struct codes {
	__u64 number[SOAK_CODES];
};

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, SOAK_KINDS);
	__type(key, __u32);
	__type(value, struct codes);
} codes SEC(".maps");

struct work {
	__u64 rounds;
	__u64 operations; /* a mask */
	__u64 keys;
	__u64 random;
	__u64 done;
};

static ADS_INLINE void operate_and_count(__u32 operation, __u64 random, __u64 keys)
{
	__u32 code = (__u32)soak_operate(operation, random, keys);
	struct codes *count = bpf_map_lookup_elem(&codes, &operation);

	if (count && code < SOAK_CODES)
		__sync_fetch_and_add(&count->number[code], 1);
}

SEC("syscall") int churn(struct work *work)
{
	__u64 rounds = work->rounds, operations = work->operations, keys = work->keys, random = work->random;
	__u64 i, done = 0, most = rounds * 4 * SOAK_KINDS; /* enough for one operation alone */

	for (ads_each(i, most)) {
		__u32 operation;

		if (done == rounds)
			break;
		random = soak_random(random);
		operation = soak_choose(random, operations);
		if (operation == SOAK_KINDS)
			continue;
		operate_and_count(operation, random | 1, keys);
		done++;
	}
	work->random = random;
	work->done = done;
	return 0;
}

/* The map that is made anew is at this offset from now on. */
SEC("syscall") int use_wide(__u64 *offset)
{
	soak_wide = *offset;
	return 0;
}

/* The others, at any moment on any CPU: everything that more than one may do at a time. */
static ADS_INLINE int operate_once(__u64 keys)
{
	__u64 random = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	__u32 operation = soak_choose(random, ~SOAK_EXCLUSIVE);

	if (operation != SOAK_KINDS)
		operate_and_count(operation, random & ~1ull, keys);
	return 0;
}

#ifndef SOAK_KEYS
#define SOAK_KEYS 512
#endif

SEC("raw_tp/sched_switch") int on_switch(void *context)
{
	return operate_once(SOAK_KEYS);
}

SEC("raw_tp/sched_process_exit") int on_exit(void *context)
{
	ads_owner_exit(ads_here(), (__u32)bpf_get_current_pid_tgid());
	return operate_once(SOAK_KEYS);
}

SEC("perf_event") int interrupt(void *context)
{
	return operate_once(SOAK_KEYS);
}
