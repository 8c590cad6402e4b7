/* SPDX-License-Identifier: MIT */
/*
 * traffic.bpf.c - programs that work on shared structures at full speed, for the tests in which
 * both sides do. Each loop says in `done` how far it came: the kernel may end it.
 */
#include <arenads/bpf.h>

/* All words are equal in every value that is ever stored. */
struct block {
	__u64 word[6];
};

struct call {
	__u32 process;
	__u32 number;
};

struct name {
	char text[16];
};

struct seen {
	__u64 order;
	__u32 process;
	__u32 number;
};

ADS_ARENA(32 * ADS_MIB);
ADS_HASHMAP(blocks, __u64, struct block, 4096);
ADS_HASHMAP(counts, __u64, __u64, 65536);
ADS_HASHMAP(calls, struct call, __u64, 4096);
ADS_HASHMAP(wanted, __u32, __u64, 64); /* process -> 0: count its calls, 1: do not */
ADS_HASHMAP(names, struct name, __u64, 64);
ADS_LIST(recent, struct seen, 1024);
ADS_QUEUE(out, struct seen, 64);
ADS_QUEUE(in, struct seen, 64);

char LICENSE[] SEC("license") = "GPL";

struct work {
	__u64 first; /* keys from first to first + keys - 1 */
	__u64 keys;
	__u64 rounds;
	__u64 value;
	__u64 done;
	__u64 bad; /* things that must not be */
};

/* Replace or insert every key, each time with the next value. */
SEC("syscall") int store_blocks(struct work *work)
{
	__u64 keys = work->keys, total = keys * work->rounds, done = 0, bad = 0;
	__u64 first = work->first, value = work->value;
	__u64 i;

	if (!keys)
		return 1;
	for (ads_each(i, total)) {
		__u64 key = first + i % keys;
		__u64 v = value + i;
		struct block block = {{v, v, v, v, v, v}};

		if (blocks_update(&key, &block))
			bad++;
		done++;
	}
	work->done = done;
	work->bad = bad;
	return 0;
}

/* Read every key; bad counts values of two writers, and keys that are not there. */
SEC("syscall") int read_blocks(struct work *work)
{
	__u64 keys = work->keys, total = keys * work->rounds, done = 0, bad = 0, first = work->first;
	__u64 i;

	if (!keys)
		return 1;
	for (ads_each(i, total)) {
		__u64 key = first + i % keys;
		struct block block = {};
		__u64 *w = block.word;

		if (blocks_get(&key, &block) || w[0] != w[1] || w[0] != w[2] || w[0] != w[3] || w[0] != w[4] ||
		    w[0] != w[5])
			bad++;
		done++;
	}
	work->done = done;
	work->bad = bad;
	return 0;
}

/* Insert every key and delete it again. */
SEC("syscall") int churn_blocks(struct work *work)
{
	__u64 keys = work->keys, total = keys * work->rounds, done = 0, bad = 0, first = work->first;
	__u64 i;

	if (!keys)
		return 1;
	for (ads_each(i, total)) {
		__u64 key = first + i % keys;
		struct block block = {{key, key, key, key, key, key}};

		if (blocks_insert(&key, &block))
			bad++;
		else if (blocks_delete(&key))
			bad++;
		done++;
	}
	work->done = done;
	work->bad = bad;
	return 0;
}

/* Iterate once: done counts the keys below `keys`, value sums them up, bad counts torn values. */
SEC("syscall") int walk_blocks(struct work *work)
{
	struct blocks_cursor cursor = {};
	struct block block;
	__u64 keys = work->keys, done = 0, sum = 0, bad = 0;
	int rc = ADS_BUDGET;

	while (ads_may_loop()) {
		rc = blocks_next(&cursor, &block);
		if (rc)
			break;
		if (cursor.key < keys) {
			done++;
			sum += cursor.key;
		}
		if (block.word[0] != block.word[5] || block.word[0] != block.word[3])
			bad++;
	}
	work->done = done;
	work->value = sum;
	work->bad = bad;
	return rc;
}

/* Add to counters in place. */
SEC("syscall") int add_counts(struct work *work)
{
	__u64 keys = work->keys, total = keys * work->rounds, done = 0, first = work->first, value = work->value;
	__u64 i;

	if (!keys)
		return 1;
	for (ads_each(i, total)) {
		__u64 key = first + i % keys;
		__u64 zero = 0;
		__u64 __arena *count = counts_lookup_or_insert(&key, &zero);

		if (!count)
			break;
		ads_add(count, value);
		done++;
	}
	work->done = done;
	return 0;
}

/* Insert fresh keys until memory or the budget is out; done says how many. */
SEC("syscall") int fill_counts(struct work *work)
{
	__u64 keys = work->keys, done = 0, first = work->first;
	int rc = 0;
	__u64 i;

	for (ads_each(i, keys)) {
		__u64 key = first + i;

		rc = counts_insert(&key, &key);
		if (rc)
			break;
		done++;
	}
	work->done = done;
	return rc;
}

SEC("syscall") int send(struct work *work)
{
	__u64 keys = work->keys, first = work->first, done = 0;
	__u64 i;

	for (ads_each(i, keys)) {
		struct seen seen = {first + i, (__u32)(first + i), ~(__u32)(first + i)};

		if (out_push(&seen))
			break;
		done++;
	}
	work->done = done;
	return 0;
}

SEC("syscall") int receive(struct work *work)
{
	__u64 keys = work->keys, expected = work->first, done = 0, bad = 0;
	__u64 i;

	for (ads_each(i, keys)) {
		struct seen seen;

		if (in_pop(&seen))
			break;
		if (seen.order != expected || seen.process != (__u32)expected || seen.number != ~(__u32)expected)
			bad++;
		expected++;
		done++;
	}
	work->done = done;
	work->bad = bad;
	return 0;
}

/* A key of any 16 bytes. */
SEC("syscall") int put_name(struct work *work)
{
	struct name name;
	__u64 one = 1;

	__builtin_memcpy(name.text, &work->first, 8);
	__builtin_memcpy(name.text + 8, &work->keys, 8);
	return names_update(&name, &one);
}

/* The system calls of the wanted processes. */
static ADS_INLINE int count_call(__u32 number)
{
	struct call call = {bpf_get_current_pid_tgid() >> 32, number};
	__u64 __arena *filter = wanted_lookup(&call.process);
	__u64 zero = 0;
	__u64 __arena *count;

	if (!filter || ads_load(filter))
		return 0;
	count = calls_lookup_or_insert(&call, &zero);
	if (count)
		ads_add(count, 1);
	return 0;
}

#if ADS_BPF
SEC("raw_tp/sys_enter") int on_call(__u64 *context)
{
	struct seen seen = {0, bpf_get_current_pid_tgid() >> 32, (__u32)context[1]};
	__u32 process = seen.process;
	__u64 order;

	count_call(seen.number);
	if (wanted_lookup(&process))
		recent_push(&seen, &order);
	return 0;
}

/* Interrupts whatever runs, in the middle of an operation too. */
SEC("perf_event") int interrupt(void *context)
{
	__u64 now = bpf_ktime_get_ns();
	struct block block = {{now, now, now, now, now, now}};
	__u64 key = now % 16, passing = 1000 + now % 64, zero = 0, all = 0;
	__u64 __arena *count;

	blocks_replace(&key, &block);
	if (blocks_insert(&passing, &block))
		blocks_delete(&passing);
	count = counts_lookup_or_insert(&zero, &all);
	if (count)
		ads_add(count, 1);
	return 0;
}

SEC("xdp") int packet(void *context)
{
	__u64 key = 7, zero = 0;
	__u64 __arena *count = counts_lookup_or_insert(&key, &zero);

	if (count)
		ads_add(count, 1);
	return 2; /* XDP_PASS */
}

SEC("cgroup_skb/egress") int sent(void *context)
{
	__u64 key = 8, zero = 0;
	__u64 __arena *count = counts_lookup_or_insert(&key, &zero);

	if (count)
		ads_add(count, 1);
	return 1;
}

SEC("tp_btf/sched_switch") int on_switch(__u64 *context)
{
	__u64 key = 9, zero = 0;
	__u64 __arena *count = counts_lookup_or_insert(&key, &zero);

	if (count)
		ads_add(count, 1);
	return 0;
}
#else
SEC("raw_tp/sys_enter") int on_call(__u64 *context)
{
	return count_call((__u32)context[1]);
}
#endif
