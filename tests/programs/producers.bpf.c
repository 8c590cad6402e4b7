/* SPDX-License-Identifier: MIT */
/* Producers of rings that all CPUs share, for test_rings.py. */
#include <arenads/bpf.h>

ADS_ARENA(4 * ADS_MIB);
ADS_RINGS(events, 4096);
ADS_RINGS(recorder, 4096, ADS_OVERWRITE);

char LICENSE[] SEC("license") = "GPL";

struct record {
	__u64 producer;
	__u64 number;
	__u64 rest[2]; /* follows from the two */
};

struct work {
	__u64 producer;
	__u64 first;
	__u64 count;
	__u64 done;
};

static ADS_INLINE struct record record_of(__u64 producer, __u64 number)
{
	__u64 rest = producer ^ number << 8;
	struct record record = {producer, number, {rest, rest}};

	return record;
}

SEC("syscall") int push_many(struct work *work)
{
	__u64 count = work->count, producer = work->producer, first = work->first, done = 0, i;

	for (ads_each(i, count)) {
		struct record record = record_of(producer, first + i);

		if (events_push(&record, sizeof(record)))
			break;
		done++;
	}
	work->done = done;
	return 0;
}

/* In place, records of several lengths: 16 bytes and 8 for each that the number says. */
SEC("syscall") int reserve_many(struct work *work)
{
	__u64 count = work->count, producer = work->producer, first = work->first, done = 0, i;

	for (ads_each(i, count)) {
		__u64 number = first + i, words = number & 3, w;
		struct ads_rings_draft draft;
		__u64 __arena *room = events_reserve(&draft, 16 + 8 * (__u32)words);

		if (!room)
			break;
		room[0] = producer;
		room[1] = number;
		for (w = 0; w < 3; w++)
			if (w < words)
				room[2 + w] = producer ^ number << 8;
		if (number % 5 == 4)
			events_discard(&draft);
		else if (events_submit(&draft))
			break;
		done++;
	}
	work->done = done;
	return 0;
}

SEC("syscall") int record_many(struct work *work)
{
	__u64 count = work->count, producer = work->producer, first = work->first, i;

	for (ads_each(i, count)) {
		struct record record = record_of(producer, first + i);

		if (recorder_push(&record, sizeof(record)))
			return 1;
	}
	return 0;
}

/* What a program is refused, and that each is told apart. */
SEC("syscall") int refuse(struct work *work)
{
	struct ads_rings_draft draft = {}, second = {};
	static const char long_one[2048];

	(void)work;
	if (events_submit(&draft) != ADS_NOT_RESERVED)
		return 1;
	events_discard(&draft);
	if (events_push(long_one, sizeof(long_one)) != ADS_TOO_LONG)
		return 2;
	if (!events_reserve(&draft, 8) || !events_reserve(&second, 8))
		return 3; /* nested: the second has another ring */
	if (draft.ring == second.ring)
		return 4;
	events_discard(&draft);
	if (events_submit(&draft) != ADS_NOT_RESERVED)
		return 5;
	return events_submit(&second);
}

/* Returns with a ring in its hands, as no program should. */
SEC("syscall") int keep(struct work *work)
{
	struct ads_rings_draft draft;

	(void)work;
	return events_reserve(&draft, 8) ? 0 : 1;
}
