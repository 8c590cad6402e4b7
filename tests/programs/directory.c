/*
 * directory.c - what a C program does that makes an arena for others to read: one structure whose
 * records are described, by text that `arenads schema` wrote, and some that are not.
 */
#include <arenads/user.h>
#include "directory.h"
#include "schemas.h"

static int make_tasks(struct ads_arena *a)
{
	struct ads_ref tasks = {0, sizeof(__u32), sizeof(struct task), 0};
	int rc = ads_collection_create(a, ADS_KIND_HASHMAP, &tasks, 100);
	__u32 entry, key;

	if (!rc)
		rc = ads_structure_name(a, "tasks", ADS_KIND_HASHMAP, tasks, task_schema);
	for (key = 1; !rc && key <= 2; key++) {
		struct task task = {100 * key, key == 1 ? STATE_RUNNING : STATE_SLEEPING, -7, "bash"};

		rc = ads_hashmap_update(a, tasks, &key, &task, ADS_ANY, &entry);
	}
	return rc;
}

/* What has no schema: a map, an ordered map of integers, a pool, a queue. */
static int make_bare(struct ads_arena *a)
{
	struct ads_ref bare = {0, 8, 12, 0}, ordered = {0, 0, 8, ADS_SIGNED}, pool = {0, 0, 16, 0}, queue = {0, 0, 8, 0};
	char key[8] = "abcdefg", value[16] = "0123456789a";
	__u32 entry, object;
	__s64 number = -2;
	int rc = ads_collection_create(a, ADS_KIND_HASHMAP, &bare, 100);

	if (!rc)
		rc = ads_structure_name(a, "bare", ADS_KIND_HASHMAP, bare, 0);
	if (!rc)
		rc = ads_hashmap_update(a, bare, key, value, ADS_ANY, &entry);
	if (!rc)
		rc = ads_orderedmap_create(a, &ordered, 100);
	if (!rc)
		rc = ads_structure_name(a, "ordered", ADS_KIND_ORDEREDMAP, ordered, 0);
	if (!rc)
		rc = ads_orderedmap_update(a, ordered, ads_orderedmap_seek,
					   ads_order_of_integer(&number, 8, ADS_SIGNED), &number, value, ADS_ANY, &entry);
	if (!rc)
		rc = ads_collection_create(a, ADS_KIND_POOL, &pool, 100);
	if (!rc)
		rc = ads_structure_name(a, "pool", ADS_KIND_POOL, pool, 0);
	if (!rc)
		rc = ads_pool_alloc(a, pool, &object);
	if (!rc)
		rc = ads_queue_create(a, &queue, 4);
	if (!rc)
		rc = ads_structure_name(a, "queue", ADS_KIND_QUEUE, queue, 0);
	return rc ? rc : ads_queue_push(a, queue, value);
}

/* Make an arena and give it a path: in the kernel, or a file. 0, or a negative error. */
int make_arena(const char *path, int kernel)
{
	struct ads_arena a;
	int fd = kernel ? ADS_IN_KERNEL : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = ads_arena_create(&a, 4 * ADS_MIB, 0, fd, ADS_MIB);

	if (rc)
		return rc;
	rc = make_tasks(&a);
	if (!rc)
		rc = make_bare(&a);
	if (!rc && kernel)
		rc = ads_bpf_pin(a.fd, path);
	ads_arena_close(&a);
	return rc;
}
