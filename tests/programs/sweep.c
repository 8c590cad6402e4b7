/*
 * sweep.c - what a C program does that reads all of a map that another process has pinned.
 */
#include <arenads/user.h>

#include <stdlib.h>

struct record {
	__u64 key;
	__u32 calls;
	char name[12];
};

/* The sum of the calls of all records, and how many there are. An error: negative. */
__s64 sum_of(const char *path, const char *name, __u64 *sum)
{
	struct ads_ref ref = {0, sizeof(__u64), 16, 0};
	struct ads_sweep sweep;
	struct ads_arena arena;
	struct record *records = 0;
	__u64 done = 0, room = 0, i;
	__s64 rc = ads_arena_open_path(&arena, path, 1);

	if (rc)
		return rc;
	rc = ads_structure_open(&arena, name, ADS_KIND_HASHMAP, &ref);
	if (!rc)
		rc = ads_hashmap_sweep(&arena, ref, &sweep);
	while (rc >= 0) {
		if (done == room) {
			struct record *more;

			room = 2 * room + 100;
			more = (struct record *)realloc(records, room * sizeof(*records));
			if (!more) {
				rc = ADS_NO_MEMORY;
				break;
			}
			records = more;
		}
		rc = ads_hashmap_sweep_next(&arena, ref, &sweep, records, done, room - done);
		if (rc <= 0)
			break;
		done += (__u64)rc;
	}
	for (*sum = 0, i = 0; !rc && i < done; i++)
		*sum += records[i].calls;
	free(records);
	ads_arena_close(&arena);
	return rc ? rc : (__s64)done;
}

/* What a record that is too small for its key and value is told. */
int misfit(const char *path, const char *name, __u32 value_at, __u32 size)
{
	struct ads_ref ref = {0, sizeof(__u64), 16, 0};
	struct ads_sweep sweep;
	struct ads_arena arena;
	char records[256];
	int rc = ads_arena_open_path(&arena, path, 1);

	if (rc)
		return rc;
	rc = ads_structure_open(&arena, name, ADS_KIND_HASHMAP, &ref);
	if (!rc)
		rc = ads_hashmap_sweep(&arena, ref, &sweep);
	if (!rc)
		rc = (int)ads_hashmap_sweep_records(&arena, ref, &sweep, value_at, size, records, 0, 1);
	ads_arena_close(&arena);
	return rc;
}
