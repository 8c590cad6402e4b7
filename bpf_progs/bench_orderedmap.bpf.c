/* SPDX-License-Identifier: MIT */
/*
 * bench_orderedmap.bpf.c - the same loops over an ordered map in the arena and over a tree of the
 * kernel's (bpf_rbtree), which a program makes of objects of its own under a spin lock. Run by
 * `python -m arenads bench`.
 *
 * Inserting and taking the first go as in a queue of timers, the hold model (Jones, An Empirical
 * Comparison of Priority-Queue and Event-Set Implementations, 1986): a new key lies as far behind
 * the one that this CPU took last as a random number says.
 */
#include "bench.h"

ADS_ORDEREDMAP(map, __u64, __u64, 1024);

/* --- the kernel's tree, as include/uapi/linux/bpf.h and its functions have it --------------------- */

struct bpf_spin_lock {
	__u32 val;
};
struct bpf_rb_root {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
	__u64 opaque[4];
} __attribute__((aligned(8)));

#define KERNEL_FUNCTION extern __attribute__((section(".ksyms")))
KERNEL_FUNCTION void *bpf_obj_new_impl(__u64 type, void *meta);
KERNEL_FUNCTION void bpf_obj_drop_impl(void *object, void *meta);
KERNEL_FUNCTION int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
					_Bool(less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta,
					__u64 offset);
KERNEL_FUNCTION struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node);
KERNEL_FUNCTION struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root);
KERNEL_FUNCTION struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root);
KERNEL_FUNCTION struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node);
KERNEL_FUNCTION struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node);

static void (*const spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static void (*const spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;

struct item {
	struct bpf_rb_node node;
	__u64 key;
	__u64 value;
};

struct tree {
	struct bpf_spin_lock lock;
	struct bpf_rb_root root __attribute__((btf_decl_tag("contains:item:node")));
};

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tree);
} peer SEC(".maps");

#define item_of(rb_node) ((struct item *)(void *)((char *)(rb_node) - __builtin_offsetof(struct item, node)))

static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return item_of(a)->key < item_of(b)->key;
}

/* --- keys ----------------------------------------------------------------------------------------- */

/* A key's low bits make it another one than all others: a few of them say which CPU's it is. */
#define UNIQUE_BITS 24
#define UNIQUE_HERE 21

struct clock {
	__u64 now;    /* high bits of the key taken last */
	__u64 unique;
	__u64 apart[14];
} ours_clock[BENCH_CPUS], peer_clock[BENCH_CPUS];

#define HERE(clock) (&(clock)[bpf_get_smp_processor_id() % BENCH_CPUS])

static __always_inline __u64 next_key(struct clock *clock, __u32 number)
{
	__u64 cpu = bpf_get_smp_processor_id() % BENCH_CPUS;

	clock->unique = (clock->unique + 1) & ((1 << UNIQUE_HERE) - 1);
	return (clock->now + number) << UNIQUE_BITS | cpu << UNIQUE_HERE | clock->unique;
}

/* Keys that stay, or come back: before anything is taken. And one that lies behind, where none is. */
#define FIXED(number) ((__u64)(number) << UNIQUE_BITS)
#define BETWEEN(number) (FIXED(number) | 1)

/* --- operations ----------------------------------------------------------------------------------- */

static __always_inline __u64 push_ours(__u64 key)
{
	return !map_insert(&key, &key);
}

static __always_inline __u64 push_peer(struct tree *tree, __u64 key)
{
	struct item *item = bpf_obj_new_impl(__builtin_btf_type_id(*(struct item *)0, 0), 0);

	if (!item)
		return 0;
	item->key = key;
	item->value = key;
	spin_lock(&tree->lock);
	bpf_rbtree_add_impl(&tree->root, &item->node, less, 0, 0);
	spin_unlock(&tree->lock);
	return 1;
}

static __always_inline __u64 pop_ours(void)
{
	__u64 key = 0, value = 0;

	if (map_pop_first(&key, &value))
		return 0;
	HERE(ours_clock)->now = key >> UNIQUE_BITS;
	return value;
}

static __always_inline __u64 pop_peer(struct tree *tree)
{
	struct bpf_rb_node *node;
	__u64 value;

	spin_lock(&tree->lock);
	node = bpf_rbtree_first(&tree->root);
	if (!node) {
		spin_unlock(&tree->lock);
		return 0;
	}
	node = bpf_rbtree_remove(&tree->root, node);
	spin_unlock(&tree->lock);
	if (!node)
		return 0;
	value = item_of(node)->value;
	HERE(peer_clock)->now = item_of(node)->key >> UNIQUE_BITS;
	bpf_obj_drop_impl(item_of(node), 0);
	return value;
}

static __always_inline struct tree *the_tree(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&peer, &zero);
}

#define WITH_TREE(body)                                                        \
	struct tree *tree = the_tree();                                        \
	if (tree) {                                                            \
		body                                                           \
	}

BENCH_LOOP(empty, { sum += FIXED(number); })
BENCH_LOOP(ours_fill, { sum += push_ours(FIXED(number)); })
BENCH_LOOP(peer_fill, { WITH_TREE(sum += push_peer(tree, FIXED(number));) })

BENCH_LOOP(ours_lookup_hit, {
	__u64 key = FIXED(number);
	__u64 __arena *value = map_lookup(&key);
	if (value)
		sum += *value;
})
/* To the node with a key, or to none. The lock is held, and what is found is good until it is not. */
#define DESCEND(node, wanted)                                                  \
	node = bpf_rbtree_root(&tree->root);                                   \
	while (node && item_of(node)->key != (wanted) && ads_may_loop())       \
		node = (wanted) < item_of(node)->key ? bpf_rbtree_left(&tree->root, node) \
						     : bpf_rbtree_right(&tree->root, node);

#define PEER_LOOKUP(name, wanted, found, otherwise)                            \
	BENCH_LOOP(name, {                                                     \
		__u64 key = wanted;                                            \
		struct bpf_rb_node *node;                                      \
		WITH_TREE({                                                    \
			spin_lock(&tree->lock);                                \
			DESCEND(node, key)                                     \
			if (node) {                                            \
				found;                                         \
			} else {                                               \
				otherwise;                                     \
			}                                                      \
			spin_unlock(&tree->lock);                              \
		})                                                             \
	})

PEER_LOOKUP(peer_lookup_hit, FIXED(number), sum += item_of(node)->value, )

BENCH_LOOP(ours_lookup_miss, {
	__u64 key = BETWEEN(number);
	sum += !map_lookup(&key);
})
PEER_LOOKUP(peer_lookup_miss, BETWEEN(number), , sum++)

/* A counter. The tree's is changed under its lock and needs no atomic operation. */
BENCH_LOOP(ours_update_in_place, {
	__u64 key = FIXED(number);
	__u64 __arena *value = map_lookup(&key);
	if (value)
		sum += ads_add(value, zero);
})
PEER_LOOKUP(peer_update_in_place, FIXED(number), sum += item_of(node)->value; item_of(node)->value += zero, )

/* The entries from a key on that is not there: so many, or until there are no more. */
#define WALK 100

BENCH_LOOP(ours_range, {
	struct map_cursor cursor = {};
	__u64 key = BETWEEN(number);
	__u64 value = 0;
	__u32 left = WALK;
	if (!map_seek(&cursor, &key))
		while (left && ads_may_loop() && !map_next(&cursor, &value)) {
			sum += value;
			left--;
		}
})
/* A node has no way to its parent, and none to the next. Where it has children behind it, that is the first of
 * them; else the way begins at the root again. */
BENCH_LOOP(peer_range, {
	__u64 key = BETWEEN(number);
	__u32 left = WALK;
	WITH_TREE({
		struct bpf_rb_node *node = 0;
		struct bpf_rb_node *at;
		__u64 found = 1;
		spin_lock(&tree->lock);
		while (left && found && ads_may_loop()) {
			__u64 next = 0;
			__u64 value = 0;
			found = 0;
			at = node ? bpf_rbtree_right(&tree->root, node) : 0;
			node = 0;
			if (!at)
				at = bpf_rbtree_root(&tree->root);
			while (at && ads_may_loop()) {
				if (item_of(at)->key > key) {
					next = item_of(at)->key;
					value = item_of(at)->value;
					found = 1;
					node = at;
					at = bpf_rbtree_left(&tree->root, at);
				} else {
					at = bpf_rbtree_right(&tree->root, at);
				}
			}
			key = next;
			sum += value;
			left--;
		}
		spin_unlock(&tree->lock);
	})
})

static __always_inline __u64 delete_peer(struct tree *tree, __u64 key)
{
	struct bpf_rb_node *node;

	spin_lock(&tree->lock);
	DESCEND(node, key)
	if (!node) {
		spin_unlock(&tree->lock);
		return 0;
	}
	node = bpf_rbtree_remove(&tree->root, node);
	spin_unlock(&tree->lock);
	if (!node)
		return 0;
	bpf_obj_drop_impl(item_of(node), 0);
	return 1;
}

BENCH_LOOP(ours_first, {
	__u64 key = 0;
	__u64 value = 0;
	if (!map_first(&key, &value))
		sum += value;
})
BENCH_LOOP(peer_first, {
	struct bpf_rb_node *node;
	WITH_TREE({
		spin_lock(&tree->lock);
		node = bpf_rbtree_first(&tree->root);
		if (node)
			sum += item_of(node)->value;
		spin_unlock(&tree->lock);
	})
})

BENCH_LOOP(ours_clear, { sum += pop_ours(); })
BENCH_LOOP(peer_clear, { WITH_TREE(sum += pop_peer(tree);) })
#define NOTHING sum += FIXED(number);
#define PUSH_OURS sum += push_ours(next_key(HERE(ours_clock), number));
#define PUSH_PEER WITH_TREE(sum += push_peer(tree, next_key(HERE(peer_clock), number));)
#define POP_OURS sum += pop_ours();
#define POP_PEER WITH_TREE(sum += pop_peer(tree);)
BENCH_LOOP(ours_push, { PUSH_OURS })
BENCH_LOOP(peer_push, { PUSH_PEER })
BENCH_TURNS(empty_turns, NOTHING, 0, NOTHING, 0)
BENCH_TURNS(ours_insert_turns, PUSH_OURS, 0, POP_OURS, 0)
BENCH_TURNS(peer_insert_turns, PUSH_PEER, 0, POP_PEER, 0)

#define DELETE_OURS                                                            \
	__u64 key = FIXED(number);                                             \
	sum += !map_delete(&key);
#define DELETE_PEER                                                            \
	WITH_TREE(sum += delete_peer(tree, FIXED(number));)
#define INSERT_OURS sum += push_ours(FIXED(number));
#define INSERT_PEER WITH_TREE(sum += push_peer(tree, FIXED(number));)
BENCH_LOOP(ours_take, { DELETE_OURS })
BENCH_LOOP(peer_take, { DELETE_PEER })
BENCH_TURNS(ours_delete_turns, DELETE_OURS, 2, INSERT_OURS, 0)
BENCH_TURNS(peer_delete_turns, DELETE_PEER, 2, INSERT_PEER, 0)
BENCH_TURNS(ours_pop_first_turns, POP_OURS, 0, PUSH_OURS, 0)
BENCH_TURNS(peer_pop_first_turns, POP_PEER, 0, PUSH_PEER, 0)

char LICENSE[] SEC("license") = "GPL";
