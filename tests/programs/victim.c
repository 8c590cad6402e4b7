/* SPDX-License-Identifier: MIT */
/*
 * victim.c - processes that die, or stop, before a chosen shared operation.
 *
 *	victim PATH
 *
 * opens the arena that is pinned at PATH. Each line of numbers on standard input,
 *
 *	KIND OPERATION OFFSET KEY FIRST SECOND STOP SIGNAL
 *
 * is done by a fork of this process, which counts its shared operations from then on and sends
 * itself SIGNAL (9 to die, 19 to stop) before number STOP, or ends by itself if there are fewer.
 * The answer is one line: "ended CODE POINTS", "died SIGNAL" or "stopped PID". A line with
 * nothing but "0 PID" lets a stopped process go on.
 */
#define ADS_POINTS 1
#include <arenads/user.h>

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { HASHMAP = ADS_KIND_HASHMAP, LIST = ADS_KIND_LIST, QUEUE = ADS_KIND_QUEUE, POOL = ADS_KIND_POOL };
enum { INSERT, REPLACE, UPDATE, DELETE, GET, PUSH, LEN, CHECK };

struct command {
	unsigned long long kind, operation, offset, key, value[2], stop, signal;
};

static struct command todo;
static unsigned long long points;

static void point(int kind, const volatile void *word)
{
	(void)kind;
	(void)word;
	if (++points == todo.stop)
		kill(getpid(), (int)todo.signal);
}

static int check(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_check_report report;

	return ads_collection_check(a, (__u32)todo.kind, ref, 0, &report);
}

static int on_hashmap(struct ads_arena *a, struct ads_ref ref)
{
	static const enum ads_update_mode modes[] = {ADS_INSERT, ADS_REPLACE, ADS_ANY};
	__u64 key = todo.key, room[2];
	__u32 entry;

	switch (todo.operation) {
	case DELETE:
		return ads_hashmap_delete(a, ref, &key);
	case GET:
		return ads_hashmap_get(a, ref, &key, room);
	case LEN:
		return (int)ads_collection_len(a, ref);
	case CHECK:
		return check(a, ref);
	default:
		return ads_hashmap_update(a, ref, &key, todo.value, modes[todo.operation], &entry);
	}
}

static int on_list(struct ads_arena *a, struct ads_ref ref)
{
	static const enum ads_update_mode modes[] = {ADS_INSERT, ADS_REPLACE, ADS_ANY};
	__u64 order, room[2];
	__u32 entry;

	switch (todo.operation) {
	case DELETE:
		return ads_list_delete(a, ref, todo.key);
	case GET:
		return ads_list_get(a, ref, todo.key, room);
	case PUSH:
		return ads_list_push(a, ref, todo.value, &order, &entry);
	case LEN:
		return (int)ads_collection_len(a, ref);
	case CHECK:
		return check(a, ref);
	default:
		return ads_list_update(a, ref, todo.key, todo.value, modes[todo.operation], &entry);
	}
}

static int perform(struct ads_arena *a)
{
	struct ads_ref ref = {(__u32)todo.offset, todo.kind == HASHMAP ? 8 : 0, 16, 0};
	__u64 room[2];
	__u32 object;

	ads_point_hook = point;
	switch (todo.kind) {
	case HASHMAP:
		return on_hashmap(a, ref);
	case LIST:
		return on_list(a, ref);
	case QUEUE:
		return todo.operation == PUSH ? ads_queue_push(a, ref, todo.value) : ads_queue_pop(a, ref, room);
	case POOL:
		return todo.operation == INSERT ? ads_pool_alloc(a, ref, &object) :
						  ads_pool_free(a, ref, (__u32)todo.key);
	}
	return ADS_INVALID;
}

/* In the child: the arena again, the operation, a report. */
static void be_the_victim(struct ads_arena *a, int report)
{
	char line[64];
	int code;

	/* One that has stopped must not outlive the test. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || ads_arena_remap(a))
		_exit(3);
	code = perform(a);
	ads_point_hook = 0;
	if (write(report, line, (size_t)snprintf(line, sizeof(line), "ended %d %llu\n", code, points)) < 0)
		_exit(4);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct ads_arena arena;
	int report[2];
	char line[256];

	if (argc != 2 || pipe(report) || ads_arena_open_path(&arena, argv[1], 0))
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		int status, number, got;
		pid_t pid;

		number = sscanf(line, "%llu %llu %llu %llu %llu %llu %llu %llu", &todo.kind, &todo.operation,
				&todo.offset, &todo.key, &todo.value[0], &todo.value[1], &todo.stop, &todo.signal);
		if (number == 2) {
			pid = (pid_t)todo.operation;
			kill(pid, SIGCONT);
		} else {
			pid = fork();
			if (!pid)
				be_the_victim(&arena, report[1]);
		}
		if (pid < 0 || waitpid(pid, &status, WUNTRACED) != pid)
			return 2;
		if (WIFSTOPPED(status)) {
			printf("stopped %d\n", (int)pid);
		} else if (WIFSIGNALED(status)) {
			printf("died %d\n", WTERMSIG(status));
		} else {
			got = WEXITSTATUS(status) ? 0 : (int)read(report[0], line, sizeof(line) - 1);
			printf("%.*s", got > 0 ? got : 7, got > 0 ? line : "failed\n");
		}
		fflush(stdout);
	}
	return 0;
}
