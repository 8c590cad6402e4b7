/* SPDX-License-Identifier: MIT */
/*
 * tree.bpf.c - a structure of the program's own: a binary search tree of nodes from a pool, linked
 * by pointers that BPF and user space both follow. Any number of writers may insert at once: what
 * links a node is one compare-exchange of the pointer that it is found by.
 */
#include <arenads/bpf.h>

struct node {
	__u64 key;
	__u64 hits;
	struct node __arena *left;
	struct node __arena *right;
	__u32 depth;
	char label[12];
};

struct tree {
	struct node __arena *root;
	__u64 size;
};

ADS_ARENA(4 * ADS_MIB);
ADS_POOL(nodes, struct node, 5000);
ADS_ARRAY(tree, struct tree, 1);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u64 key;
	__u64 hits;  /* of the node */
	__u64 depth;
	__u64 where; /* its address */
};

static ADS_INLINE void found(struct step *step, struct node __arena *node)
{
	step->hits = node->hits;
	step->depth = node->depth;
	step->where = (__u64)(unsigned long)ads_user_form(node);
}

/* Count a key, whose node is made when it comes for the first time. */
SEC("syscall") int insert(struct step *step)
{
	struct tree __arena *tree = tree_lookup(0);
	struct node __arena *fresh = 0, *node;
	struct node __arena *__arena *link;
	__u64 key = step->key;
	__u32 depth = 0;

	if (!tree)
		return ADS_NO_MEMORY;
	link = &tree->root;
	while (ads_may_loop()) {
		node = *link;
		if (node && node->key == key) {
			ads_add(&node->hits, 1);
			found(step, node);
			return fresh ? nodes_free(fresh) : ADS_OK;
		}
		if (node) {
			link = key < node->key ? &node->left : &node->right;
			depth++;
			continue;
		}
		if (!fresh)
			fresh = nodes_alloc();
		if (!fresh)
			return ADS_NO_MEMORY;
		fresh->key = key;
		fresh->hits = 1;
		fresh->left = 0;
		fresh->right = 0;
		fresh->depth = depth;
		fresh->label[0] = 'a' + key % 26;
		fresh->label[1] = 0;
		/* Another may have linked a node here meanwhile: then it goes on from that one. */
		if (!ads_cas((__u64 __arena *)link, 0, (__u64)(unsigned long)ads_user_form(fresh))) {
			ads_add(&tree->size, 1);
			found(step, fresh);
			return ADS_OK;
		}
	}
	return ADS_BUDGET;
}

SEC("syscall") int find(struct step *step)
{
	struct tree __arena *tree = tree_lookup(0);
	struct node __arena *node;
	__u64 key = step->key;

	if (!tree)
		return ADS_NO_MEMORY;
	for (node = tree->root; node && ads_may_loop(); node = key < node->key ? node->left : node->right) {
		if (node->key == key) {
			found(step, node);
			return ADS_OK;
		}
	}
	return node ? ADS_BUDGET : ADS_ABSENT;
}
