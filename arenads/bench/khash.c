/* SPDX-License-Identifier: MIT */
/*
 * khash.c - a hash map in the arena, and khash.h of HTSlib: open addressing, which the compiler sees
 * through, and one process has for itself. The least that a hash table costs; see floor.c.
 */
#include "hashmap.c"
#include <htslib/khash.h>

KHASH_MAP_INIT_INT64(floor, struct value)

void *floor_new(__u32 entries)
{
	khash_t(floor) *table = kh_init(floor);

	/* With room for all of them at once, as the other side has. */
	if (table && kh_resize(floor, table, (khint_t)(entries + entries / 2))) {
		kh_destroy(floor, table);
		return 0;
	}
	return table;
}

void floor_free(void *table)
{
	kh_destroy(floor, (khash_t(floor) *)table);
}

#define TABLE ((khash_t(floor) *)to->mapped)
/* `found` where the key is, `otherwise` if it is nowhere. */
#define FLOOR(name, found, otherwise)                                          \
	LOOP(name, {                                                           \
		khint_t at = kh_get(floor, TABLE, key.word[0]);                \
		if (at != kh_end(TABLE)) {                                     \
			found;                                                 \
		} else {                                                       \
			otherwise;                                             \
		}                                                              \
	})

FLOOR(floor_lookup_hit, value = kh_value(TABLE, at); __asm__ volatile("" ::"r"(&value) : "memory");
      sum += value.word[0], )
LOOP(floor_lookup_miss, {
	key.word[0] |= BENCH_ABSENT;
	sum += kh_get(floor, TABLE, key.word[0]) == kh_end(TABLE);
})
FLOOR(floor_replace, kh_value(TABLE, at) = value; sum++, )
FLOOR(floor_update_in_place, sum += __atomic_fetch_add(&kh_value(TABLE, at).word[0], 0, __ATOMIC_SEQ_CST), )
LOOP(floor_fill, {
	int put;
	khint_t at = kh_put(floor, TABLE, key.word[0], &put);
	if (put > 0) {
		kh_value(TABLE, at) = value;
		sum++;
	}
})
FLOOR(floor_clear, kh_del(floor, TABLE, at); sum++, )

SOME(some_floor_insert, floor_fill)
SOME(some_floor_delete, floor_clear)
BENCH_TURNS(floor_insert_turns, some_floor_insert, 0, some_floor_delete, 2)
BENCH_TURNS(floor_delete_turns, some_floor_delete, 2, some_floor_insert, 0)
