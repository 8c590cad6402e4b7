/* SPDX-License-Identifier: MIT */
/*
 * exhaust.bpf.c - takes until nothing is left, and says which code ended it. With ENTRIES
 * large the arena's memory ends first, with ENTRIES small max_entries do.
 */
#include <arenads/bpf.h>

#ifndef ENTRIES
#define ENTRIES 10
#endif
#ifndef SLOTS
#define SLOTS 4
#endif

struct pair {
	__u64 first;
	__u64 second;
};

ADS_ARENA(2 * ADS_MIB);
ADS_HASHMAP(numbers, __u64, struct pair, ENTRIES);
ADS_LIST(events, struct pair, ENTRIES);
ADS_POOL(objects, struct pair, ENTRIES);
ADS_QUEUE(inbox, struct pair, SLOTS);

char LICENSE[] SEC("license") = "GPL";

enum { INSERT, REPLACE, UPDATE, DELETE, GET, LOOKUP_OR_INSERT, PUSH, TAKE, ALLOC, FREE, LEN };

struct step {
	__u64 operation;
	__u64 key;
	__u64 count; /* so many keys, from `key` on, until one is refused */
	__u64 done;
	__u64 address; /* of the last one handed out */
	__u64 first;   /* the last value found */
};

#define address_of(pointer) ((__u64)(unsigned long)ads_user_form(pointer))

/* Both words are made of the key, so that a value of another one shows. */
static ADS_INLINE struct pair pair_of(__u64 key)
{
	struct pair pair = {key, ~key};

	return pair;
}

static ADS_NOINLINE int number(struct step *step, __u64 key)
{
	struct pair pair = pair_of(key);
	struct pair __arena *found;
	int rc;

	if (!step)
		return ADS_INVALID;
	switch (step->operation) {
	case INSERT:
		return numbers_insert(&key, &pair);
	case REPLACE:
		return numbers_replace(&key, &pair);
	case UPDATE:
		return numbers_update(&key, &pair);
	case DELETE:
		return numbers_delete(&key);
	case GET:
		rc = numbers_get(&key, &pair);
		step->first = pair.first;
		return rc;
	}
	found = numbers_lookup_or_insert(&key, &pair);
	if (!found)
		return 1;
	step->address = address_of(found);
	return 0;
}

SEC("syscall") int on_numbers(struct step *step)
{
	__u64 first = step->key, count = step->count, done = 0;
	int rc = 0;
	__u64 i;

	for (ads_each(i, count)) {
		rc = number(step, first + i);
		if (rc)
			break;
		done++;
	}
	step->done = done;
	return rc;
}

static ADS_NOINLINE int event(struct step *step, __u64 key)
{
	struct pair pair = pair_of(key);
	struct pair __arena *found;
	__u64 order = 0;
	int rc;

	if (!step)
		return ADS_INVALID;
	switch (step->operation) {
	case INSERT:
		return events_insert(key, &pair);
	case REPLACE:
		return events_replace(key, &pair);
	case UPDATE:
		return events_update(key, &pair);
	case DELETE:
		return events_delete(key);
	case GET:
		rc = events_get(key, &pair);
		step->first = pair.first;
		return rc;
	case PUSH:
		rc = events_push(&pair, &order);
		step->first = order;
		return rc;
	}
	found = events_lookup(key);
	if (!found)
		return 1;
	step->address = address_of(found);
	return 0;
}

SEC("syscall") int on_events(struct step *step)
{
	__u64 first = step->key, count = step->count, done = 0;
	int rc = 0;
	__u64 i;

	for (ads_each(i, count)) {
		rc = event(step, first + i);
		if (rc)
			break;
		done++;
	}
	step->done = done;
	return rc;
}

SEC("syscall") int on_objects(struct step *step)
{
	__u64 count = step->count, done = 0, address = 0;
	struct pair __arena *object;
	int rc = 0;
	__u64 i;

	switch (step->operation) {
	case FREE:
#if ADS_BPF
		return objects_free((struct pair __arena *)(unsigned long)(__u32)step->key);
#else
		return objects_free((struct pair *)step->key);
#endif
	case LEN:
		return (int)objects_len();
	}
	for (ads_each(i, count)) {
		object = objects_alloc();
		if (!object) {
			rc = 1;
			break;
		}
		ads_store(&object->first, done);
		address = address_of(object);
		done++;
	}
	step->done = done;
	step->address = address;
	return rc;
}

SEC("syscall") int on_inbox(struct step *step)
{
	__u64 first = step->key, count = step->count, done = 0;
	struct pair pair;
	int rc = 0;
	__u64 i;

	if (step->operation == TAKE) {
		rc = inbox_pop(&pair);
		if (!rc)
			step->first = pair.first;
		return rc;
	}
	for (ads_each(i, count)) {
		pair = pair_of(first + i);
		rc = inbox_push(&pair);
		if (rc)
			break;
		done++;
	}
	step->done = done;
	return rc;
}

/* `count` raw blocks of `key` bytes; each one's first word is written. */
SEC("syscall") int on_blocks(struct step *step)
{
	__u64 bytes = step->key, count = step->count, done = 0, address = 0;
	int rc = 0;
	__u64 i;

	for (ads_each(i, count)) {
		void __arena *block = ads_block(ads_here(), bytes);

		if (!block) {
			rc = 1;
			break;
		}
		ads_store((__u64 __arena *)block, 7);
		address = address_of(block);
		done++;
	}
	step->done = done;
	step->address = address;
	return rc;
}
