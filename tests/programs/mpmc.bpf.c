/* SPDX-License-Identifier: MIT */
/* Producers and consumers of one MPMC queue, for test_mpmc.py. */
#include <arenads/bpf.h>

#define SLOTS 64

struct record {
	__u64 producer;
	__u64 number;
	__u64 rest[6]; /* follows from the two */
};

/* Where a consumer puts what it popped. */
struct output {
	__u64 taken[2 * SLOTS];
};

ADS_ARENA(2 * ADS_MIB);
ADS_MPMC(queue, struct record, SLOTS);
ADS_POOL(outputs, struct output, 64);

char LICENSE[] SEC("license") = "GPL";

struct work {
	__u64 producer;
	__u64 first; /* number, or address of the output */
	__u64 count;
	__u64 done;
};

static ADS_INLINE struct record record_of(__u64 producer, __u64 number)
{
	__u64 rest = producer ^ number << 8;
	struct record record = {producer, number, {rest, rest, rest, rest, rest, rest}};

	return record;
}

SEC("syscall") int push_many(struct work *work)
{
	__u64 count = work->count, producer = work->producer, first = work->first, done = 0, i;

	for (ads_each(i, count)) {
		struct record record = record_of(producer, first + i);

		if (queue_push(&record))
			break;
		done++;
	}
	work->done = done;
	return 0;
}

/* 1: a record that is not whole. */
SEC("syscall") int pop_many(struct work *work)
{
	struct output __arena *output = ads_at(ads_here(), struct output, work->first);
	__u64 count = work->count, done = 0, i;

	for (ads_each(i, count)) {
		struct record record;
		__u64 rest;
		__u32 w;

		if (done >= SLOTS || queue_pop(&record))
			break;
		rest = record.producer ^ record.number << 8;
		for (w = 0; w < 6; w++)
			if (record.rest[w] != rest)
				return 1;
		output->taken[2 * done] = record.producer;
		output->taken[2 * done + 1] = record.number;
		done++;
	}
	work->done = done;
	return 0;
}

SEC("syscall") int push_one(struct work *work)
{
	struct record record = {work->producer, ~work->producer, {0}};

	return queue_push(&record);
}

SEC("syscall") int pop_one(struct work *work)
{
	struct record record = {};
	int rc = queue_pop(&record);

	work->count = record.producer;
	return rc;
}

SEC("syscall") int length(struct work *work)
{
	(void)work;
	return (int)queue_len();
}
