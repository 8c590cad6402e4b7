/* SPDX-License-Identifier: MIT */
/*
 * operations.bpf.c - every operation of the declared structures, one a run: what is asked
 * stands in the context, and so does the answer. Both engines run it.
 */
#include <arenads/bpf.h>

#ifndef MAP_ENTRIES
#define MAP_ENTRIES 32
#endif
#ifndef LIST_ENTRIES
#define LIST_ENTRIES 16
#endif

struct pair {
	__u64 first;
	__u64 second;
};

/* Nothing here is a multiple of 8 bytes. */
struct name {
	__u8 text[5];
};
struct note {
	__u32 number;
	__u16 kind;
	__u8 text[5];
} __attribute__((packed));

ADS_ARENA(4 * ADS_MIB);
ADS_HASHMAP(numbers, __u64, struct pair, MAP_ENTRIES);
ADS_HASHMAP(notes, struct name, struct note, MAP_ENTRIES);
ADS_LIST(events, struct pair, LIST_ENTRIES);
ADS_QUEUE(inbox, struct note, 8);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u64 operation;
	__u64 key;
	__u64 value;
	__u64 first; /* the answer */
	__u64 second;
};

enum {
	NUMBERS_INSERT,
	NUMBERS_REPLACE,
	NUMBERS_UPDATE,
	NUMBERS_DELETE,
	NUMBERS_GET,
	NUMBERS_LOOKUP,
	NUMBERS_FIND,
	NUMBERS_LOOKUP_OR_INSERT,
	NUMBERS_ADD,
	NUMBERS_LEN,
	NUMBERS_SUM,
	NOTES_INSERT,
	NOTES_REPLACE,
	NOTES_UPDATE,
	NOTES_DELETE,
	NOTES_GET,
	NOTES_LEN,
	NOTES_SUM,
	EVENTS_PUSH,
	EVENTS_INSERT,
	EVENTS_REPLACE,
	EVENTS_UPDATE,
	EVENTS_DELETE,
	EVENTS_GET,
	EVENTS_LOOKUP,
	EVENTS_LEN,
	EVENTS_SUM,
	EVENTS_SUM_AFTER,
	EVENTS_POP,
	EVENTS_FIRST,
	EVENTS_POP_FIRST,
	INBOX_PUSH,
	INBOX_POP,
	INBOX_LEN,
};

/* Values are made of one number, so that half of one and half of another can be told. */
static ADS_INLINE struct pair pair_of(__u64 value)
{
	struct pair pair = {value, ~value};

	return pair;
}

static ADS_INLINE struct note note_of(__u64 value)
{
	struct note note = {(__u32)value, (__u16)(value >> 8),
			    {(__u8)value, (__u8)(value >> 8), (__u8)(value >> 16), (__u8)(value >> 24), 7}};

	return note;
}

static ADS_INLINE struct name name_of(__u64 key)
{
	struct name name = {{(__u8)key, (__u8)(key >> 8), (__u8)(key >> 16), (__u8)(key >> 24), (__u8)(key >> 32)}};

	return name;
}

static ADS_INLINE void answer_note(struct step *step, const struct note *note)
{
	step->first = note->number | (__u64)note->kind << 32;
	step->second = note->text[0] | (__u64)note->text[1] << 8 | (__u64)note->text[2] << 16 |
		       (__u64)note->text[3] << 24 | (__u64)note->text[4] << 32;
}

static ADS_NOINLINE int numbers_sum(struct step *step)
{
	struct numbers_cursor cursor = {};
	struct pair pair;
	__u64 sum = 0, count = 0;
	int rc;

	if (!step)
		return 0;
	while (ads_may_loop()) {
		rc = numbers_next(&cursor, &pair);
		if (rc)
			break;
		sum += (cursor.key + 1) * 0x9e3779b97f4a7c15ull ^ pair.first * 3;
		sum += pair.second;
		count++;
	}
	step->first = sum;
	step->second = count;
	return rc;
}

static ADS_NOINLINE int notes_sum(struct step *step)
{
	struct notes_cursor cursor = {};
	struct note note;
	__u64 sum = 0, count = 0;
	int rc;

	if (!step)
		return 0;
	while (ads_may_loop()) {
		rc = notes_next(&cursor, &note);
		if (rc)
			break;
		sum += (__u64)cursor.key.text[0] * 31 + (__u64)cursor.key.text[4] * 17 + note.number;
		sum += (__u64)note.kind * note.text[2] + note.text[4];
		count++;
	}
	step->first = sum;
	step->second = count;
	return rc;
}

/* The order matters here: a list has one. */
static ADS_NOINLINE int events_sum(struct step *step)
{
	struct events_cursor cursor = {};
	struct pair pair;
	__u64 sum = 0, count = 0;
	int rc;

	if (!step)
		return 0;
	if (step->operation == EVENTS_SUM_AFTER)
		events_after(&cursor, step->key);
	while (ads_may_loop()) {
		rc = events_next(&cursor, &pair);
		if (rc)
			break;
		sum = sum * 31 + cursor.scan.hash * 7 + pair.first * 3 + pair.second;
		count++;
	}
	step->first = sum;
	step->second = count;
	return rc;
}

SEC("syscall") int on_numbers(struct step *step)
{
	struct pair pair = pair_of(step->value);
	struct pair __arena *found = 0;
	__u64 key = step->key;
	int rc;

	step->first = step->second = 0;
	switch (step->operation) {
	case NUMBERS_INSERT:
		return numbers_insert(&key, &pair);
	case NUMBERS_REPLACE:
		return numbers_replace(&key, &pair);
	case NUMBERS_UPDATE:
		return numbers_update(&key, &pair);
	case NUMBERS_DELETE:
		return numbers_delete(&key);
	case NUMBERS_GET:
		rc = numbers_get(&key, &pair);
		if (!rc) {
			step->first = pair.first;
			step->second = pair.second;
		}
		return rc;
	case NUMBERS_FIND:
		rc = numbers_find(&key, &found);
		if (!rc)
			step->first = ads_load(&found->first);
		return rc;
	case NUMBERS_LOOKUP:
		found = numbers_lookup(&key);
		break;
	case NUMBERS_LOOKUP_OR_INSERT:
		found = numbers_lookup_or_insert(&key, &pair);
		break;
	case NUMBERS_ADD:
		found = numbers_lookup(&key);
		if (found)
			step->second = ads_add(&found->first, step->value);
		break;
	case NUMBERS_LEN:
		return (int)numbers_len();
	case NUMBERS_SUM:
		return numbers_sum(step);
	}
	if (!found)
		return 1;
	step->first = ads_load(&found->first);
	return 0;
}

SEC("syscall") int on_notes(struct step *step)
{
	struct note note = note_of(step->value);
	struct name name = name_of(step->key);
	int rc;

	step->first = step->second = 0;
	switch (step->operation) {
	case NOTES_INSERT:
		return notes_insert(&name, &note);
	case NOTES_REPLACE:
		return notes_replace(&name, &note);
	case NOTES_UPDATE:
		return notes_update(&name, &note);
	case NOTES_DELETE:
		return notes_delete(&name);
	case NOTES_GET:
		rc = notes_get(&name, &note);
		if (!rc)
			answer_note(step, &note);
		return rc;
	case NOTES_LEN:
		return (int)notes_len();
	case NOTES_SUM:
		return notes_sum(step);
	}
	return 1;
}

SEC("syscall") int on_events(struct step *step)
{
	struct pair pair = pair_of(step->value);
	struct pair __arena *found;
	__u64 order = 0;
	int rc;

	step->first = step->second = 0;
	switch (step->operation) {
	case EVENTS_PUSH:
		rc = events_push(&pair, &order);
		if (!rc)
			step->first = order;
		return rc;
	case EVENTS_INSERT:
		return events_insert(step->key, &pair);
	case EVENTS_REPLACE:
		return events_replace(step->key, &pair);
	case EVENTS_UPDATE:
		return events_update(step->key, &pair);
	case EVENTS_DELETE:
		return events_delete(step->key);
	case EVENTS_GET:
	case EVENTS_POP:
		rc = step->operation == EVENTS_GET ? events_get(step->key, &pair) : events_pop(step->key, &pair);
		if (!rc) {
			step->first = pair.first;
			step->second = pair.second;
		}
		return rc;
	case EVENTS_LOOKUP:
		found = events_lookup(step->key);
		if (!found)
			return 1;
		step->first = ads_load(&found->first);
		return 0;
	case EVENTS_LEN:
		return (int)events_len();
	case EVENTS_FIRST:
	case EVENTS_POP_FIRST:
		rc = step->operation == EVENTS_FIRST ? events_first(&order, &pair) : events_pop_first(&order, &pair);
		if (!rc) {
			step->first = pair.first;
			step->second = order;
		}
		return rc;
	case EVENTS_SUM:
	case EVENTS_SUM_AFTER:
		return events_sum(step);
	}
	return 1;
}

SEC("syscall") int on_inbox(struct step *step)
{
	struct note note = note_of(step->value);
	int rc;

	step->first = step->second = 0;
	switch (step->operation) {
	case INBOX_PUSH:
		return inbox_push(&note);
	case INBOX_POP:
		rc = inbox_pop(&note);
		if (!rc)
			answer_note(step, &note);
		return rc;
	case INBOX_LEN:
		return (int)inbox_len();
	}
	return 1;
}
