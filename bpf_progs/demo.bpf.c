/* SPDX-License-Identifier: MIT */
/*
 * demo.bpf.c - counts what each process asks of the kernel, obeys filters set from Python,
 * and answers questions that arrive in a queue. Run by `python -m arenads demo`.
 *
 *	on_syscall   every system call         one thread's system calls also answer questions
 *	on_switch    every context switch
 *	sample       one process, its counts taken elsewhere (native engine: from /proc)
 *
 * An event is counted in exactly one place: in the entry of its process and in `events`, or
 * in `filtered`, or in `lost`. So `events` is the sum of all entries, to the last one.
 */
#include <arenads/bpf.h>

struct task {
	__u64 syscalls;
	__u64 switches;
	__u64 first_seen; /* nanoseconds, monotonic clock */
	char comm[16];
};

struct newcomer {
	__u64 seen;
	__u32 pid;
	__u32 cpu;
	char comm[16];
};

struct totals {
	__u64 events;
	__u64 filtered; /* a filter said so */
	__u64 lost;     /* no entry: the map or the arena is full */
};

enum action { COUNT = 0, SKIP = 1 };

struct filter {
	__u64 action; /* enum action */
	__u64 skipped;
};

struct settings {
	__u64 agent; /* the thread whose system calls answer questions; 0: none */
};

struct question {
	__u64 sequence;
	__u32 pid;
};

struct answer {
	__u64 sequence;
	__u64 events; /* of that process, so far */
	__u32 pid;
	__u32 known;
};

struct sample {
	__u32 pid;
	__u64 syscalls;
	__u64 switches;
	char comm[16];
};

struct identity {
	__u32 thread;
	__u32 process;
};

ADS_ARENA(64 * ADS_MIB);
ADS_HASHMAP(tasks, __u32, struct task, 65536);
ADS_LIST(newcomers, struct newcomer, 8192);
ADS_HASHMAP(totals, __u32, struct totals, 1024); /* one entry a CPU: no line that all write */
ADS_HASHMAP(filters, __u32, struct filter, 1024);
ADS_HASHMAP(settings, __u32, struct settings, 1);
ADS_QUEUE(inbox, struct question, 256);
ADS_QUEUE(outbox, struct answer, 256);

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Insert a process, and tell Python if it was us who did. */
static ADS_INLINE int add_task(__u32 pid, const struct sample *sample)
{
	struct task task = {.first_seen = bpf_ktime_get_ns()};
	struct newcomer newcomer = {.seen = task.first_seen, .pid = pid};
	__u64 order;
	int rc;

	if (sample)
		__builtin_memcpy(task.comm, sample->comm, sizeof(task.comm));
	else
		bpf_get_current_comm(task.comm, sizeof(task.comm));
	rc = tasks_insert(&pid, &task);
	if (rc)
		return rc;
	newcomer.cpu = bpf_get_smp_processor_id();
	__builtin_memcpy(newcomer.comm, task.comm, sizeof(newcomer.comm));
	newcomers_push(&newcomer, &order); /* a failure is counted in the list's counters */
	return ADS_OK;
}

static ADS_INLINE int observe(__u32 pid, __u64 syscalls, __u64 switches, const struct sample *sample)
{
	struct totals none = {};
	__u32 cpu = bpf_get_smp_processor_id();
	struct totals __arena *total = totals_lookup_or_insert(&cpu, &none);
	struct filter __arena *filter = filters_lookup(&pid);
	struct task __arena *task;

	if (!total) /* counted nowhere but in the failures of `totals` itself */
		return 0;
	if (filter && ads_load(&filter->action) == SKIP) {
		ads_add(&filter->skipped, syscalls + switches);
		ads_add(&total->filtered, syscalls + switches);
		return 0;
	}
	task = tasks_lookup(&pid);
	if (!task) {
		add_task(pid, sample);
		task = tasks_lookup(&pid); /* also when another CPU was quicker */
	}
	if (!task) {
		ads_add(&total->lost, syscalls + switches);
		return 0;
	}
	if (syscalls)
		ads_add(&task->syscalls, syscalls);
	if (switches)
		ads_add(&task->switches, switches);
	ads_add(&total->events, syscalls + switches);
	return 0;
}

/* Take one question, give one answer. Run by one thread at a time, as a queue demands. */
static ADS_INLINE void converse(void)
{
	struct question question = {};
	struct answer answer = {};
	struct task __arena *task;

	if (inbox_pop(&question))
		return;
	answer.sequence = question.sequence;
	answer.pid = question.pid;
	task = tasks_lookup(&question.pid);
	if (task) {
		answer.known = 1;
		answer.events = ads_load(&task->syscalls) + ads_load(&task->switches);
	}
	outbox_push(&answer); /* full: counted in the queue's counters */
}

SEC("raw_tp/sys_enter") int on_syscall(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 first = 0;
	struct settings __arena *setting = settings_lookup(&first);

	if (setting && ads_load(&setting->agent) == (__u32)id)
		converse();
	return observe(id >> 32, 1, 0, 0);
}

/* The current task is the one that gives up the CPU; idle CPUs are process 0. */
SEC("raw_tp/sched_switch") int on_switch(void *ctx)
{
	return observe(bpf_get_current_pid_tgid() >> 32, 0, 1, 0);
}

SEC("syscall") int sample(struct sample *ctx)
{
	return observe(ctx->pid, ctx->syscalls, ctx->switches, ctx);
}

/* What on_syscall does for the agent, where there are no events. */
SEC("syscall") int talk(void *ctx)
{
	converse();
	return 0;
}

/* The numbers by which BPF knows the caller: in a container they differ from getpid()'s. */
SEC("syscall") int whoami(struct identity *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();

	ctx->thread = (__u32)id;
	ctx->process = id >> 32;
	return 0;
}
