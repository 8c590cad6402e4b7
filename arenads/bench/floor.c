/* SPDX-License-Identifier: MIT */
/*
 * floor.c - a hash map in the arena, and the hash table of GLib, which one process has for itself:
 * nobody shares it, nothing in it is checked. What an arena costs over plain memory.
 *
 * GLib is loaded at run time; floor.py says where its functions are.
 */
#include "hashmap.c"

/* As GLib documents them: a table, a key and a value are addresses. */
struct floor {
	void *table;
	void *(*lookup)(void *table, const void *key);
	int (*insert)(void *table, void *key, void *value);
	int (*remove)(void *table, const void *key);
	struct slot *slots; /* one for each number of the order */
};

struct slot {
	struct key key;
	struct value value;
};

static inline struct floor *floor_of(const struct bench_target *to)
{
	return (struct floor *)to->mapped;
}

LOOP(floor_lookup_hit, {
	const struct value *found = floor_of(to)->lookup(floor_of(to)->table, &key);
	if (found) {
		value = *found;
		__asm__ volatile("" ::"r"(&value) : "memory");
		sum += value.word[0];
	}
})
LOOP(floor_lookup_miss, {
	key.word[0] |= BENCH_ABSENT;
	sum += !floor_of(to)->lookup(floor_of(to)->table, &key);
})
LOOP(floor_replace, {
	struct value *found = floor_of(to)->lookup(floor_of(to)->table, &key);
	if (found) {
		*found = value;
		sum++;
	}
})
LOOP(floor_update_in_place, {
	struct value *found = floor_of(to)->lookup(floor_of(to)->table, &key);
	if (found)
		sum += __atomic_fetch_add(&found->word[0], 0, __ATOMIC_SEQ_CST);
})
/* The slot is that of the place in the order, which each number has once. */
LOOP(floor_fill, {
	struct slot *slot = &floor_of(to)->slots[position ? position - 1 : run->length - 1];
	slot->key = key;
	slot->value = value;
	sum += !!floor_of(to)->insert(floor_of(to)->table, &slot->key, &slot->value);
})
LOOP(floor_clear, { sum += !!floor_of(to)->remove(floor_of(to)->table, &key); })

SOME(some_floor_insert, floor_fill)
SOME(some_floor_delete, floor_clear)
BENCH_TURNS(floor_insert_turns, some_floor_insert, 0, some_floor_delete, 2)
BENCH_TURNS(floor_delete_turns, some_floor_delete, 2, some_floor_insert, 0)
