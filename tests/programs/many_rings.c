/* SPDX-License-Identifier: MIT */
/* A C program that makes rings, produces to them and consumes them, for test_rings.py. */
#include <arenads/user.h>

static int produce(struct ads_arena *arena, const struct ads_rings *rings, __u64 number)
{
	struct ads_rings_draft draft;
	__u32 place;
	int rc = ads_rings_push(arena, rings->each, rings->flags, &number, sizeof(number));

	if (!rc)
		rc = ads_rings_reserve(arena, rings->each, rings->flags, sizeof(number), &draft, &place);
	if (rc)
		return rc;
	number++;
	ads_copy_in(arena, place, &number, sizeof(number));
	return ads_rings_submit(arena, rings->flags, &draft);
}

/* The sum of all that waits. */
static __u64 consume(struct ads_arena *arena, const struct ads_rings *rings)
{
	__u64 number, sum = 0;
	__u32 i, length;

	for (i = 0; i < rings->count; i++)
		while (!ads_ring_pop(arena, ads_rings_ref(rings, i), &number, sizeof(number), &length))
			sum += number;
	return sum;
}

/* Make or open the rings, take the sum of what waits, and leave two records that make up `number`. */
int use_rings(const char *path, __u32 count, __u64 number, __u64 *sum);
int use_rings(const char *path, __u32 count, __u64 number, __u64 *sum)
{
	struct ads_arena arena;
	struct ads_rings rings;
	int rc = ads_arena_open_path(&arena, path, 0);

	if (rc)
		return rc;
	rc = ads_rings_create(&arena, "events", count, 4096, 0);
	if (!rc || rc == ADS_EXISTS)
		rc = ads_rings_open(&arena, "events", &rings);
	if (!rc) {
		*sum = consume(&arena, &rings);
		rc = produce(&arena, &rings, number);
	}
	ads_owner_leave(&arena);
	ads_arena_close(&arena);
	return rc ? rc : (int)rings.count;
}
