/* SPDX-License-Identifier: MIT */
/*
 * rings.bpf.c - every role on byte rings, by programs that tests run at full speed.
 *
 * A record of n bytes made by produce() has its number in the first 8 bytes, as far as it has
 * so many, and the number's low byte in all others.
 */
#include <arenads/bpf.h>

ADS_ARENA(4 * ADS_MIB);
ADS_RING(out, 4096);
ADS_RING(in, 4096);
ADS_RING(recorder, 4096, ADS_OVERWRITE);
ADS_RING(tiny, 64);

char LICENSE[] SEC("license") = "GPL";

struct work {
	__u64 first;  /* number of the first record */
	__u64 count;  /* records */
	__u64 size;   /* of a record; 0: changing */
	__u64 batch;  /* records between two publications */
	__u64 done;
	__u64 bad;    /* things that must not be */
	__s64 code;   /* that ended it */
	__u64 sum;    /* of the numbers */
};

struct numbered {
	__u64 number[8];
};

/* Sizes from 8 to 260, all remainders. */
static ADS_INLINE __u32 size_of(const struct work *work, __u64 number)
{
	return work->size ? (__u32)work->size : 8 + (__u32)(number * 37 % 253);
}

/* Fill the words of a record in place. */
static ADS_INLINE __u64 fill(void __arena *place, __u64 number, __u32 size)
{
	__u64 __arena *words = place;
	__u64 pattern = (number & 0xff) * 0x0101010101010101ull;
	__u32 words_of_it = (size + 7) / 8;
	__u32 i;

	for (ads_each(i, words_of_it))
		words[i] = i ? pattern : number;
	return i == words_of_it ? 0 : 1;
}

static ADS_INLINE __u64 is_filled(void __arena *place, __u64 number, __u32 size)
{
	__u64 __arena *words = place;
	__u64 pattern = (number & 0xff) * 0x0101010101010101ull;
	__u32 whole = size / 8;
	__u32 i;

	for (ads_each(i, whole))
		if (words[i] != (i ? pattern : number))
			return 0;
	return i == whole;
}

#define PRODUCE(ring)                                                          \
	SEC("syscall") int produce_##ring(struct work *work)                   \
	{                                                                      \
		__u64 total = work->count, first = work->first, batch = work->batch, done = 0, bad = 0; \
		__u64 i;                                                       \
		for (ads_each(i, total)) {                                     \
			__u64 number = first + i;                              \
			__u32 size = size_of(work, number);                    \
			struct ads_ring_draft draft = {};                      \
			void __arena *place = ring##_reserve(&draft, size);    \
			if (!place) {                                          \
				work->code = ADS_FULL;                         \
				break;                                         \
			}                                                      \
			bad += fill(place, number, size);                      \
			if (ring##_commit(&draft))                             \
				bad++;                                         \
			done++;                                                \
			if (batch < 2 || done % batch == 0)                    \
				bad += ring##_publish() != 0;                  \
		}                                                              \
		bad += ring##_publish() != 0;                                  \
		work->done = done;                                             \
		work->bad = bad;                                               \
		return 0;                                                      \
	}

PRODUCE(out)
PRODUCE(recorder)

/* Take records in place, in batches of all that waits; their numbers must follow each other. */
SEC("syscall") int consume_in(struct work *work)
{
	__u64 total = work->count, first = work->first, done = 0, bad = 0, sum = 0;
	struct ads_ring_cursor batch = {};
	__u64 i;

	for (ads_each(i, total)) {
		void __arena *place;
		__u32 size = 0;

		if (batch.at == batch.end) {
			if (i && in_release(&batch))
				bad++;
			work->code = in_peek(&batch);
			if (work->code)
				break;
		}
		place = in_next(&batch, &size);
		if (!place) {
			bad++;
			break;
		}
		bad += !is_filled(place, first + done, size);
		sum += *(__u64 __arena *)place;
		done++;
	}
	if (batch.end && in_release(&batch))
		bad++;
	work->done = done;
	work->bad = bad;
	work->sum = sum;
	return 0;
}

/* Push copies of 64 bytes. */
SEC("syscall") int push_out(struct work *work)
{
	__u64 total = work->count, first = work->first, done = 0;
	__u64 i;

	for (ads_each(i, total)) {
		__u64 n = first + i;
		__u64 p = (n & 0xff) * 0x0101010101010101ull;
		struct numbered record = {{n, p, p, p, p, p, p, p}};

		work->code = out_push(&record, sizeof(record));
		if (work->code)
			break;
		done++;
	}
	work->done = done;
	return 0;
}

#define POP(ring)                                                              \
	SEC("syscall") int pop_##ring(struct work *work)                       \
	{                                                                      \
		__u64 total = work->count, done = 0, sum = 0, bad = 0, last = 0; \
		__u64 i;                                                       \
		for (ads_each(i, total)) {                                     \
			struct numbered record = {};                           \
			__u32 size = 0;                                        \
			work->code = ring##_pop(&record, sizeof(record), &size); \
			if (work->code) {                                      \
				work->size = size;                             \
				break;                                         \
			}                                                      \
			bad += record.number[0] <= last;                       \
			last = record.number[0];                               \
			sum += last;                                           \
			done++;                                                \
		}                                                              \
		work->done = done;                                             \
		work->sum = sum;                                               \
		work->bad = bad;                                               \
		return 0;                                                      \
	}

POP(in)
POP(recorder)

/* Whatever must be refused; 0, or the line that was not. */
SEC("syscall") int refuse(struct work *work)
{
	char record[25] = {1, 2, 3};
	struct ads_ring_cursor batch = {};
	struct ads_ring_draft draft = {};
	__u32 size = 0;

	(void)work;
#define EXPECT(condition)                                                      \
	if (!(condition))                                                      \
	return __LINE__
	EXPECT(tiny_commit(&draft) == ADS_NOT_RESERVED);
	EXPECT(tiny_push(record, 25) == ADS_TOO_LONG);
	EXPECT(tiny_append(record, 25) == ADS_TOO_LONG);
	EXPECT(!tiny_reserve(&draft, 25) && tiny_commit(&draft) == ADS_NOT_RESERVED);
	EXPECT(!tiny_reserve(&draft, 0xffffffff) && tiny_commit(&draft) == ADS_NOT_RESERVED);
	EXPECT(tiny_pop(record, sizeof(record), &size) == ADS_ABSENT);
	EXPECT(tiny_peek(&batch) == ADS_ABSENT);
	EXPECT(!tiny_next(&batch, &size));
	EXPECT(tiny_reserve(&draft, 24));
	tiny_discard(&draft);
	EXPECT(tiny_commit(&draft) == ADS_NOT_RESERVED);
	EXPECT(tiny_reserve(&draft, 24));
	EXPECT(!tiny_push(record, 3)); /* makes the reservation void */
	EXPECT(tiny_commit(&draft) == ADS_NOT_RESERVED);
	EXPECT(tiny_waiting() == 16);
	EXPECT(!tiny_append(record, 24));
	EXPECT(tiny_waiting() == 16);
	EXPECT(!tiny_reserve(&draft, 24));
	EXPECT(tiny_push(record, 24) == ADS_FULL);
	EXPECT(!tiny_publish());
	EXPECT(tiny_waiting() == 48);
	record[0] = record[1] = record[2] = 0;
	EXPECT(tiny_pop(record, 2, &size) == ADS_TOO_LONG && size == 3);
	EXPECT(!tiny_pop(record, 5, &size) && size == 3 && record[0] == 1 && record[1] == 2 && record[2] == 3);
	EXPECT(!tiny_peek(&batch) && tiny_next(&batch, &size) && size == 24 && !tiny_next(&batch, &size));
	EXPECT(!tiny_release(&batch));
	EXPECT(!tiny_release(&batch)); /* gives up what is given up already */
	EXPECT(!tiny_waiting());
	EXPECT(!tiny_push(record, 0));
	EXPECT(!tiny_pop(record, sizeof(record), &size) && !size);
	EXPECT(tiny_release(&batch) == ADS_INVALID); /* it was taken meanwhile */
	EXPECT(recorder_peek(&batch) == ADS_INVALID);
	EXPECT(recorder_release(&batch) == ADS_INVALID);
	return 0;
}
