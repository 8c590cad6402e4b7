/*
 * every_kind.c - a C program that makes an arena with a structure of every kind, each described by
 * text that `arenads schema` wrote, and puts a few records into each.
 */
#include <arenads/user.h>
#include "every_kind.h"
#include "schemas.h"

#define SIZE(T) ((__u32)sizeof(T))

static struct task task_of(__u32 number)
{
	struct task task = {100 * number, number % 2 ? STATE_RUNNING : STATE_SLEEPING, -(int)number, "", 0};

	snprintf(task.comm, sizeof(task.comm), "task %u", number);
	return task;
}

/* Elements 0, 1 and 2, each the parent of the next; `parent` becomes the address of the last. */
static int make_slots(struct ads_arena *a, struct task **parent)
{
	struct ads_ref slots = {.value_size = SIZE(struct task)};
	__u32 i, place;
	int rc = ads_array_create(a, &slots, 1000);

	if (!rc)
		rc = ads_structure_name(a, "slots", ADS_KIND_ARRAY, slots, task_schema);
	for (i = 0; !rc && i < 3; i++) {
		struct task task = task_of(10 + i);

		task.parent = *parent;
		rc = ads_array_set(a, slots, 1000, i, &task);
		if (!rc)
			rc = ads_array_find(a, slots, 1000, i, &place);
		if (!rc)
			*parent = ads_at(a, struct task, place);
	}
	return rc;
}

static int make_hashed(struct ads_arena *a, struct task *parent)
{
	struct ads_ref tasks = {.key_size = 4, .value_size = SIZE(struct task)}, muted = {.key_size = 4};
	int rc = ads_collection_create(a, ADS_KIND_HASHMAP, &tasks, 100);
	__u32 entry, key;

	if (!rc)
		rc = ads_structure_name(a, "tasks", ADS_KIND_HASHMAP, tasks, u32_task_schema);
	if (!rc)
		rc = ads_collection_create(a, ADS_KIND_SET, &muted, 100);
	if (!rc)
		rc = ads_structure_name(a, "muted", ADS_KIND_SET, muted, u32_schema);
	for (key = 1; !rc && key <= 3; key++) {
		struct task task = task_of(key);

		task.parent = key == 3 ? NULL : parent;
		rc = ads_hashmap_update(a, tasks, &key, &task, ADS_ANY, &entry);
		if (!rc)
			rc = ads_hashmap_update(a, muted, &key, NULL, ADS_ANY, &entry);
	}
	return rc;
}

static int make_ordered(struct ads_arena *a)
{
	struct ads_ref deltas = {.value_size = SIZE(struct task), .flags = ADS_SIGNED};
	struct ads_ref names = {.key_size = 16, .value_size = 8, .flags = ADS_BYTES};
	static const char text[][16] = {"carol", "alice", "bob"};
	int rc = ads_orderedmap_create(a, &deltas, 100);
	__u32 entry, i;

	if (!rc)
		rc = ads_structure_name(a, "deltas", ADS_KIND_ORDEREDMAP, deltas, i32_task_schema);
	if (!rc)
		rc = ads_orderedmap_create(a, &names, 100);
	if (!rc)
		rc = ads_structure_name(a, "names", ADS_KIND_ORDEREDMAP, names, name_u64_schema);
	for (i = 0; !rc && i < 3; i++) {
		struct task task = task_of(i);
		__s32 key = 1 - (int)i;
		__u64 value = i;

		rc = ads_orderedmap_update(a, deltas, ads_orderedmap_seek, ads_order_of_integer(&key, 4, ADS_SIGNED),
					   &key, &task, ADS_ANY, &entry);
		if (!rc)
			rc = ads_orderedmap_update(a, names, ads_orderedmap_seek, ads_order_of_bytes(text[i], 16),
						   text[i], &value, ADS_ANY, &entry);
	}
	return rc;
}

/* Three objects of a pool, linked into a list, each pointing to the one before. */
static int make_jobs(struct ads_arena *a)
{
	struct ads_ref jobs = {.value_size = SIZE(struct job)}, ready = {0};
	__u32 node = (__u32)__builtin_offsetof(struct job, ready), object, pid;
	int rc = ads_collection_create(a, ADS_KIND_POOL, &jobs, 100);
	struct job *before = NULL;
	__u64 order;

	if (!rc)
		rc = ads_structure_name(a, "jobs", ADS_KIND_POOL, jobs, job_schema);
	if (!rc)
		rc = ads_intrusive_create(a, &ready, jobs, node);
	if (!rc)
		rc = ads_structure_name(a, "ready", ADS_KIND_INTRUSIVE, ready, job_schema);
	for (pid = 1; !rc && pid <= 3; pid++) {
		struct job *job;

		rc = ads_pool_alloc(a, jobs, &object);
		if (rc)
			break;
		job = ads_at(a, struct job, object);
		job->pid = pid;
		job->level = 10 * pid;
		job->next = before;
		before = job;
		rc = ads_intrusive_push(a, ready, object + node, &order);
	}
	return rc;
}

static int make_queues(struct ads_arena *a)
{
	struct ads_ref recent = {.value_size = SIZE(struct task)}, inbox = recent, outbox = recent;
	int rc = ads_collection_create(a, ADS_KIND_LIST, &recent, 100);
	__u32 entry, i;
	__u64 order;

	if (!rc)
		rc = ads_structure_name(a, "recent", ADS_KIND_LIST, recent, task_schema);
	if (!rc)
		rc = ads_queue_create(a, &inbox, 8);
	if (!rc)
		rc = ads_structure_name(a, "inbox", ADS_KIND_QUEUE, inbox, task_schema);
	if (!rc)
		rc = ads_mpmc_create(a, &outbox, 8);
	if (!rc)
		rc = ads_structure_name(a, "outbox", ADS_KIND_MPMC, outbox, task_schema);
	for (i = 1; !rc && i <= 3; i++) {
		struct task task = task_of(i);

		rc = ads_list_push(a, recent, &task, &order, &entry);
		if (!rc)
			rc = ads_queue_push(a, inbox, &task);
		if (!rc)
			rc = ads_mpmc_push(a, outbox, &task);
	}
	return rc;
}

static int make_rings(struct ads_arena *a)
{
	struct ads_ref log = {.flags = ADS_OVERWRITE};
	struct ads_rings many;
	int rc = ads_ring_create(a, &log, 4096);

	if (!rc)
		rc = ads_structure_name(a, "log", ADS_KIND_RING, log, NULL);
	if (!rc)
		rc = ads_ring_push(a, log, "hello", 5);
	if (!rc)
		rc = ads_rings_create(a, "many", 2, 4096, 0);
	if (!rc)
		rc = ads_rings_open(a, "many", &many);
	return rc ? rc : ads_rings_push(a, many.each, many.flags, "from C", 6);
}

/* Make an arena and give it a path: in the kernel, or a file. 0, or a negative error. */
int make_arena(const char *path, int kernel)
{
	struct task *parent = NULL;
	struct ads_arena a;
	int fd = kernel ? ADS_IN_KERNEL : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = ads_arena_create(&a, 4 * ADS_MIB, 0, fd, ADS_MIB);

	if (rc)
		return rc;
	rc = make_slots(&a, &parent);
	if (!rc)
		rc = make_hashed(&a, parent);
	if (!rc)
		rc = make_ordered(&a);
	if (!rc)
		rc = make_jobs(&a);
	if (!rc)
		rc = make_queues(&a);
	if (!rc)
		rc = make_rings(&a);
	if (!rc && kernel)
		rc = ads_bpf_pin(a.fd, path);
	ads_arena_close(&a);
	return rc;
}
