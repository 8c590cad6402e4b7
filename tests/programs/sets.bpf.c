/* SPDX-License-Identifier: MIT */
/*
 * sets.bpf.c - a set, and a hash map whose entries wait for a grace period, for tests of both sides.
 */
#include <arenads/bpf.h>

ADS_ARENA(16 * ADS_MIB);
ADS_SET(blocked, __u64, 4096);
ADS_HASHMAP(held, __u64, __u64, 64, ADS_GRACE);

char LICENSE[] SEC("license") = "GPL";

enum { INSERT, DELETE, CONTAINS, LENGTH, SUM };

struct step {
	__u64 operation, first, count;
	__s64 result; /* of the last operation, or a sum */
	__u64 done;
};

SEC("syscall") int run_set(struct step *step)
{
	__u64 operation = step->operation, first = step->first, count = step->count, done = 0, i;
	struct blocked_cursor cursor = {};
	__s64 result = 0;

	if (operation == LENGTH)
		result = blocked_len();
	if (operation == SUM) {
		__u64 sum = 0;

		for (ads_loop(i)) {
			result = blocked_next(&cursor);
			if (result)
				break;
			sum += cursor.key;
			done++;
		}
		if (result == ADS_ABSENT)
			result = (__s64)sum;
	}
	if (operation == LENGTH || operation == SUM)
		count = 0;
	for (ads_each(i, count)) {
		__u64 key = first + i;

		if (operation == INSERT)
			result = blocked_insert(&key);
		else if (operation == DELETE)
			result = blocked_delete(&key);
		else
			result = blocked_contains(&key);
		done += result == (operation == CONTAINS);
	}
	step->result = result;
	step->done = done;
	return 0;
}

/* Insert or delete keys of the map whose entries wait. */
SEC("syscall") int run_held(struct step *step)
{
	__u64 operation = step->operation, first = step->first, count = step->count, done = 0, i;
	__s64 result = 0;

	for (ads_each(i, count)) {
		__u64 key = first + i, value = key * 10;

		result = operation == INSERT ? held_insert(&key, &value) : held_delete(&key);
		done += result == 0;
	}
	step->result = result;
	step->done = done;
	return 0;
}

__u64 mismatches, watched;

/*
 * Look a key up, go round for a while, and look whether the pointer still is the key's: its value
 * is always ten times the key, of which others make new ones all the time. Not sleepable.
 */
SEC("raw_tp/sys_enter") int hold(void *ctx)
{
	__u64 key, i, zero = ads_unknown_zero();

	for (key = 1 + zero; key < 9; key++) {
		__u64 __arena *value = held_lookup(&key);

		if (!value)
			continue;
		for (ads_each(i, 50))
			if (ads_load(value) != key * 10)
				__sync_fetch_and_add(&mismatches, 1);
		__sync_fetch_and_add(&watched, 1);
	}
	return 0;
}

struct seen {
	__u64 mismatches, watched;
};

SEC("syscall") int read_seen(struct seen *seen)
{
	seen->mismatches = mismatches;
	seen->watched = watched;
	return 0;
}
