/* SPDX-License-Identifier: MIT */
/* array.bpf.c - every operation on arrays, for so many elements from the first asked for on. */
#include <arenads/bpf.h>

#ifndef ENTRIES
#define ENTRIES 5000
#endif

struct pair {
	__u64 first;
	__u64 second;
};

struct wide { /* five to a chunk, were it not a power of two: four */
	__u64 number;
	char text[2992];
};

struct odd {
	char text[13];
};

ADS_ARENA(16 * ADS_MIB);
ADS_ARRAY(counts, __u64, ENTRIES);
ADS_ARRAY(pairs, struct pair, ENTRIES);
ADS_ARRAY(wides, struct wide, 10);
ADS_ARRAY(odds, struct odd, 1000);
ADS_HASHMAP(numbers, __u64, __u64, 100000);

char LICENSE[] SEC("license") = "GPL";

enum { LOOKUP, GET, SET, ADD, EXCHANGE, COMPARE_EXCHANGE };

struct step {
	__u64 operation;
	__u64 index;
	__u64 count;
	__u64 stride; /* from one element to the next */
	__u64 value;
	__u64 expected;
	__u64 done;
	__u64 found; /* the last value found, before it was changed */
};

static ADS_INLINE int count(struct step *step, __u32 index)
{
	__u64 __arena *element;

	if (step->operation == GET)
		return counts_get(index, &step->found);
	if (step->operation == SET)
		return counts_set(index, &step->value);
	element = counts_lookup(index);
	if (!element)
		return 1;
	if (step->operation == ADD)
		step->found = ads_add(element, step->value);
	else if (step->operation == EXCHANGE)
		step->found = ads_xchg(element, step->value);
	else if (step->operation == COMPARE_EXCHANGE)
		step->found = ads_cas(element, step->expected, step->value);
	else
		step->found = ads_load(element);
	return 0;
}

SEC("syscall") int on_counts(struct step *step)
{
	__u64 total = step->count, stride = step->stride, done = 0;
	__u32 index = step->index;
	int rc = 0;
	__u64 i;

	for (ads_each(i, total)) {
		rc = count(step, index);
		if (rc)
			break;
		index += stride;
		done++;
	}
	step->done = done;
	return rc;
}

SEC("syscall") int on_pairs(struct step *step)
{
	struct pair pair = {step->value, ~step->value};
	int rc;

	if (step->operation == SET)
		return pairs_set(step->index, &pair);
	rc = pairs_get(step->index, &pair);
	step->found = pair.first;
	step->done = pair.second;
	return rc;
}

SEC("syscall") int on_wides(struct step *step)
{
	struct wide __arena *wide = wides_lookup(step->index);

	if (!wide)
		return 1;
	step->found = ads_xchg(&wide->number, step->value);
	return 0;
}

SEC("syscall") int on_odds(struct step *step)
{
	struct odd odd;
	int rc = odds_get(step->index, &odd);

	if (rc)
		return rc;
	step->found = odd.text[12];
	odd.text[12]++;
	return odds_set(step->index, &odd);
}

/* Takes memory between one chunk and the next. */
SEC("syscall") int on_numbers(struct step *step)
{
	__u64 total = step->count, first = step->index, done = 0;
	int rc = 0;
	__u64 i;

	for (ads_each(i, total)) {
		__u64 key = first + i;

		rc = numbers_update(&key, &key);
		if (rc)
			break;
		done++;
	}
	step->done = done;
	return rc;
}

#if ADS_BPF
/* May not sleep: the memory must be there. Counts each process in its own element. */
SEC("raw_tp/sys_enter") int on_call(__u64 *context)
{
	__u64 __arena *calls = counts_lookup((__u32)(bpf_get_current_pid_tgid() >> 32) % ENTRIES);

	if (calls && context[1] == 110)
		ads_add(calls, 1);
	return 0;
}
#endif
