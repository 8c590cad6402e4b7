/* SPDX-License-Identifier: MIT */
/*
 * linked.bpf.c - a structure of the program's own: stacks of nodes from a pool, linked by
 * pointers that BPF and user space both follow.
 */
#include <arenads/bpf.h>

struct node {
	__u64 value;
	struct node __arena *next;
};

struct stack {
	struct node __arena *top;
	__u64 depth;
};

ADS_ARENA(4 * ADS_MIB);
ADS_POOL(nodes, struct node, 1000);
ADS_HASHMAP(stacks, __u32, struct stack, 16);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u32 stack;
	__u32 count;
	__u64 value;
	__u64 sum;
};

SEC("syscall") int push(struct step *step)
{
	struct stack empty = {};
	__u32 number = step->stack;
	struct stack __arena *stack = stacks_lookup_or_insert(&number, &empty);
	struct node __arena *node = nodes_alloc();

	if (!stack || !node)
		return 1;
	node->value = step->value;
	node->next = stack->top;
	stack->top = ads_user_form(node);
	stack->depth += 1;
	step->sum = (__u64)(unsigned long)ads_user_form(node);
	return 0;
}

SEC("syscall") int pop(struct step *step)
{
	__u32 number = step->stack;
	struct stack __arena *stack = stacks_lookup(&number);
	struct node __arena *node;

	if (!stack || !stack->top)
		return 1;
	node = stack->top;
	step->value = node->value;
	stack->top = node->next;
	stack->depth -= 1;
	return nodes_free(node);
}

/* Follows the pointers, whoever stored them. */
SEC("syscall") int walk(struct step *step)
{
	__u32 number = step->stack;
	struct stack __arena *stack = stacks_lookup(&number);
	struct node __arena *node;
	__u64 sum = 0;
	__u32 count = 0;

	if (!stack)
		return 1;
	for (node = stack->top; node && ads_may_loop(); node = node->next) {
		sum = sum * 31 + node->value;
		count++;
	}
	step->sum = sum;
	step->count = count;
	return node ? ADS_BUDGET : 0;
}
