/* SPDX-License-Identifier: MIT */
/*
 * memory.h - user space's part of an arena: make, map, check and populate it.
 *
 * Two kinds of backing, one set of rules:
 *	kernel	a BPF_MAP_TYPE_ARENA map. Its base stands in map_extra, so an opener that has
 *		only the descriptor learns it. Children do not inherit the mapping.
 *	file	a memfd or a file. Its base stands in the root. No privileges needed.
 *
 * Every process maps the whole arena at the same address, with MAP_FIXED_NOREPLACE: a
 * collision is an error, never a silent overwrite. Nothing here destroys anything:
 * ads_arena_close() drops this process's view, the memory lives while a descriptor, a
 * pin, a program or a file keeps it.
 */
#ifndef ARENADS_MEMORY_H
#define ARENADS_MEMORY_H

#include "layout.h"

#if !ADS_BPF

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define ADS_POPULATE_STEP (256 * ADS_KIB) /* at least this much at a time */

/* In place of a descriptor. Below every -errno: no call that failed returns it. */
#define ADS_IN_KERNEL (-4096)

/* --- bpf(2), the four commands that an arena needs ------------------------------------------ */

#define ADS_BPF_MAP_CREATE 0
#define ADS_BPF_OBJ_PIN 6
#define ADS_BPF_OBJ_GET 7
#define ADS_BPF_MAP_GET_FD_BY_ID 14
#define ADS_BPF_OBJ_GET_INFO_BY_FD 15
#define ADS_MAP_TYPE_ARENA 33
#define ADS_MAP_MMAPABLE (1u << 10)

/* Leading fields of union bpf_attr and struct bpf_map_info, as far as they are used. */
struct ads_bpf_map_create {
	__u32 map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node;
	char name[16];
	__u32 ifindex, btf_fd, btf_key, btf_value, btf_vmlinux_value;
	__u64 map_extra;
};
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_bpf_map_create, map_extra) == 64, "kernel ABI");

struct ads_bpf_object {
	__u64 path;
	__u32 fd, flags;
};

struct ads_bpf_map_info {
	__u32 type, id, key_size, value_size, max_entries, map_flags;
	char name[16];
	__u32 ifindex, btf_vmlinux_value;
	__u64 netns_dev, netns_ino;
	__u32 btf_id, btf_key, btf_value, btf_vmlinux;
	__u64 map_extra;
};
ADS_STATIC_ASSERT(__builtin_offsetof(struct ads_bpf_map_info, map_extra) == 80, "kernel ABI");

static inline int ads_bpf(int command, void *attributes, __u32 size)
{
	long rc = syscall(SYS_bpf, command, attributes, size);

	return rc < 0 ? -errno : (int)rc;
}

/* Descriptor of a new arena map, or -errno. */
static inline int ads_bpf_arena_create(__u64 size, __u64 base, const char *name)
{
	struct ads_bpf_map_create attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = ADS_MAP_TYPE_ARENA;
	attr.max_entries = (__u32)(size / ADS_PAGE_SIZE);
	attr.map_flags = ADS_MAP_MMAPABLE;
	attr.map_extra = base;
	strncpy(attr.name, name, sizeof(attr.name) - 1);
	return ads_bpf(ADS_BPF_MAP_CREATE, &attr, sizeof(attr));
}

/* Pin a map; 0 or -errno. */
static inline int ads_bpf_pin(int fd, const char *path)
{
	struct ads_bpf_object attr = {(__u64)(unsigned long)path, (__u32)fd, 0};

	return ads_bpf(ADS_BPF_OBJ_PIN, &attr, sizeof(attr));
}

/* Descriptor of what is pinned at a path, or -errno. For reading only too it must be writable:
 * the kernel maps an arena through no other (mmap takes VM_SHARED from a read-only file). */
static inline int ads_bpf_get(const char *path)
{
	struct ads_bpf_object attr = {(__u64)(unsigned long)path, 0, 0};

	return ads_bpf(ADS_BPF_OBJ_GET, &attr, sizeof(attr));
}

/* Descriptor of the map with an id, or -errno. */
static inline int ads_bpf_map_by_id(__u32 id)
{
	__u32 attr[3] = {id, 0, 0};

	return ads_bpf(ADS_BPF_MAP_GET_FD_BY_ID, attr, sizeof(attr));
}

/* What kind of map a descriptor is; 0, or -errno where it is none (-EINVAL, -EBADF). */
static inline int ads_bpf_map_info(int fd, struct ads_bpf_map_info *info)
{
	struct {
		__u32 fd, size;
		__u64 info;
	} attr = {(__u32)fd, sizeof(*info), (__u64)(unsigned long)info};

	memset(info, 0, sizeof(*info));
	return ads_bpf(ADS_BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr));
}

/* --- addresses ---------------------------------------------------------------------------------- */

/* Windows to choose from: above the shadow memory of sanitizers, below heap, stack and
 * libraries on x86-64 and arm64 with 47- or 48-bit addresses. */
#define ADS_BASE_LOWEST 0x200000000000ull
#define ADS_BASE_HIGHEST 0x4fff00000000ull

static inline int ads_base_valid(__u64 base)
{
	return base && !(base % ADS_MAX_SIZE) && base < (1ull << 56);
}

/* Map all of an arena's pages at its base; 0, ADS_BASE_TAKEN or -errno. */
static inline int ads_arena_map(int fd, __u64 base, __u64 size, int readonly)
{
	void *want = (void *)(unsigned long)base;
	void *got = mmap(want, size, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);

	if (got == MAP_FAILED) {
		if (errno == EEXIST)
			return ADS_BASE_TAKEN;
		/* No room for addresses (ulimit -v) is not the arena being full. */
		return errno == ENOMEM ? -EOVERFLOW : -errno;
	}
	if (got != want) { /* a kernel that does not know NOREPLACE took it as a hint */
		munmap(got, size);
		return ADS_BASE_TAKEN;
	}
	return ADS_OK;
}

/* A window of 4 GiB that is free in this process: its address, 0 if none was found. */
static inline __u64 ads_base_choose(void)
{
	__u64 windows = (ADS_BASE_HIGHEST - ADS_BASE_LOWEST) / ADS_MAX_SIZE;
	int tries;

	for (tries = 0; tries < 64; tries++) {
		__u64 random = 0;
		__u64 base;
		void *got;

		if (syscall(SYS_getrandom, &random, sizeof(random), 0) != (long)sizeof(random))
			random = (__u64)tries * 0x9e3779b97f4a7c15ull + (__u64)getpid();
		base = ADS_BASE_LOWEST + random % windows * ADS_MAX_SIZE;
		got = mmap((void *)(unsigned long)base, ADS_MAX_SIZE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
		if (got == MAP_FAILED)
			continue;
		munmap(got, ADS_MAX_SIZE);
		if (got == (void *)(unsigned long)base)
			return base;
	}
	return 0;
}

/* --- populate -------------------------------------------------------------------------------------- */

/* Make pages exist from the populated mark to `end`, then raise the mark (R9). Any process
 * may do it, at the same time as others. ADS_NO_MEMORY: beyond the arena, or the machine
 * has none. */
static inline int ads_arena_populate(struct ads_arena *a, __u64 end)
{
	struct ads_root *root = ads_root_of(a);
	__u64 from = ads_load_acquire(&root->populated); /* A9, pairs with R9 */
	__u32 i;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	if (from > a->size || from % ADS_PAGE_SIZE)
		return ADS_DAMAGED;
	if (end > a->size)
		return ADS_NO_MEMORY;
	if (end <= from)
		return ADS_OK;
	end = (end + ADS_POPULATE_STEP - 1) & ~(ADS_POPULATE_STEP - 1);
	if (end > a->size)
		end = a->size;
	if (madvise(a->base + from, end - from, MADV_POPULATE_WRITE)) {
		__u64 page;

		if (errno != EINVAL)
			return ADS_NO_MEMORY;
		/* A kernel before 5.14: touch each page. Adding 0 disturbs nobody. */
		for (page = from; page < end; page += ADS_PAGE_SIZE)
			ads_add((__u64 *)(void *)(a->base + page), 0);
	}
	for (ads_loop(i)) {
		__u64 now = ads_load(&root->populated);

		if (now >= end || ads_cas(&root->populated, now, end) == now) /* R9 */
			return ADS_OK;
	}
	return ADS_BUDGET;
}

/* Keep `distance` populated bytes ahead of the cursor. 1 if pages were added, 0 if not needed
 * or the end is reached, else an error. */
static inline int ads_arena_provision(struct ads_arena *a, __u64 distance)
{
	struct ads_root *root = ads_root_of(a);
	__u64 cursor = ads_load(&root->cursor);
	__u64 populated = ads_load(&root->populated);
	__u64 end = cursor + distance;
	int rc;

	if (cursor > a->size || populated > a->size)
		return ADS_DAMAGED;
	if (end > a->size)
		end = a->size;
	if (populated >= end)
		return 0;
	rc = ads_arena_populate(a, end);
	return rc ? rc : 1;
}

/* --- make and open ------------------------------------------------------------------------------------ */

static inline int ads_size_valid(__u64 size)
{
	return size && size <= ADS_MAX_SIZE && !(size % ADS_PAGE_SIZE);
}

#ifndef ads_owners_of_size /* a test has a small arena */
/* Lines of the registry of writing threads in an arena of `size` bytes. */
static inline __u32 ads_owners_of_size(__u64 size)
{
	__u64 lines = size / (16 * ADS_KIB);

	return lines < ADS_OWNERS_MOST ? (__u32)lines : ADS_OWNERS_MOST;
}
#endif

/* Write the root of a fresh, mapped arena; the magic comes last. */
static inline int ads_arena_format(struct ads_arena *a, __u64 populate)
{
	struct ads_root *root = ads_root_of(a);
	__u32 owners = ads_owners_of_size(a->size);
	__u64 least = ADS_HEAP_OFFSET + 8 + (owners + 1) * sizeof(struct ads_owner);
	__u64 id = 0;
	int rc;

	if (syscall(SYS_getrandom, &id, sizeof(id), 0) != (long)sizeof(id))
		return -errno;
	root->abi_version = ADS_ABI_VERSION;
	root->byte_order = ADS_BYTE_ORDER;
	root->size = a->size;
	root->base = (__u64)(unsigned long)a->base;
	root->creation_id = id;
	root->cursor = ADS_HEAP_OFFSET;
	rc = ads_arena_populate(a, populate > least ? populate : least);
	if (rc)
		return rc;
	if (owners) {
		/* The first block of all, as alloc.h would claim it. */
		*ads_at(a, __u64, ADS_HEAP_OFFSET) = (__u64)(owners + 1) << 32 | ADS_BLOCK_RAW;
		root->owners = (__u64)owners << 32 | (ADS_HEAP_OFFSET + 8);
		root->cursor = ADS_HEAP_OFFSET + (owners + 1) * sizeof(struct ads_owner);
	}
	a->id = id;
	a->limit = root->populated;
	ads_store_release(&root->magic, ADS_MAGIC); /* R14: what the magic vouches for is there */
	return ADS_OK;
}

/* What the root of an arena claims, compared with what is known; 0 or the difference. */
static inline int ads_root_check(const struct ads_root *root, __u64 base, __u64 size)
{
	if (root->magic != ADS_MAGIC)
		return root->magic == __builtin_bswap64(ADS_MAGIC) ? ADS_WRONG_ORDER : ADS_WRONG_TYPE;
	if (root->byte_order != ADS_BYTE_ORDER)
		return ADS_WRONG_ORDER;
	if (root->abi_version != ADS_ABI_VERSION)
		return ADS_WRONG_ABI;
	if (root->base != base || root->size != size || root->populated > size ||
	    root->populated % ADS_PAGE_SIZE || root->populated < ADS_PAGE_SIZE ||
	    root->cursor % ADS_LINE != 56 || root->cursor < ADS_HEAP_OFFSET || root->cursor > size ||
	    root->directory % 8 || root->directory > size)
		return ADS_DAMAGED;
	return ADS_OK;
}

/*
 * Create an arena of `size` bytes (pages, at most 4 GiB): in `fd`, an empty file or memfd, or
 * with ADS_IN_KERNEL as a BPF arena map. Another negative one, of an open() that failed, is -EBADF.
 * `base` 0: choose one. On success `a` owns the descriptor.
 */
static inline int ads_arena_create(struct ads_arena *a, __u64 size, __u64 base, int fd, __u64 populate)
{
	int tries;
	int rc = ADS_BASE_TAKEN;

	if (!ads_size_valid(size) || (base && !ads_base_valid(base)))
		return ADS_INVALID;
	if (fd < 0 && fd != ADS_IN_KERNEL)
		return -EBADF;
	for (tries = 0; tries < 8 && rc == ADS_BASE_TAKEN; tries++) {
		__u64 at = base ? base : ads_base_choose();
		int map = fd;

		if (!at || (base && tries))
			return ADS_BASE_TAKEN;
		if (map < 0)
			map = ads_bpf_arena_create(size, at, "arenads");
		else if (ftruncate(map, (off_t)size))
			return -errno;
		if (map < 0)
			return map;
		rc = ads_arena_map(map, at, size, 0);
		if (rc == ADS_OK) {
			struct ads_arena made = {(char *)(unsigned long)at, size, ADS_PAGE_SIZE, 0, 0, map, 0};

			rc = ads_arena_format(&made, populate);
			if (rc == ADS_OK) {
				*a = made;
				return ADS_OK;
			}
			munmap(made.base, size);
		}
		if (fd < 0)
			close(map);
	}
	return rc;
}

/*
 * Where the arena in a descriptor is to be mapped: *base and *size, and *kernel tells a BPF
 * map from a file. ADS_WRONG_TYPE if it is neither, or a -errno.
 */
static inline int ads_arena_probe(int fd, __u64 *base, __u64 *size, int *kernel, __u32 *map_type)
{
	struct ads_bpf_map_info info;
	struct ads_root root;
	struct stat st;
	int rc = ads_bpf_map_info(fd, &info);

	*kernel = !rc && info.type;
	*map_type = *kernel ? info.type : 0;
	if (*kernel) {
		*base = info.map_extra;
		*size = (__u64)info.max_entries * ADS_PAGE_SIZE;
		return info.type == ADS_MAP_TYPE_ARENA && ads_base_valid(*base) ? ADS_OK : ADS_WRONG_TYPE;
	}
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || !ads_size_valid((__u64)st.st_size) ||
	    pread(fd, &root, sizeof(root), ADS_ROOT_OFFSET) != (ssize_t)sizeof(root))
		return ADS_WRONG_TYPE;
	*base = root.base;
	*size = (__u64)st.st_size;
	if (root.magic == ADS_MAGIC && !ads_base_valid(root.base))
		return ADS_DAMAGED;
	return ads_root_check(&root, root.base, (__u64)st.st_size);
}

/* Map the arena in `fd` and check its root. On success `a` owns the descriptor. */
static inline int ads_arena_open(struct ads_arena *a, int fd, int readonly)
{
	__u64 base = 0, size = 0;
	__u32 map_type;
	int kernel, rc;

	rc = ads_arena_probe(fd, &base, &size, &kernel, &map_type);
	if (rc)
		return rc;
	rc = ads_arena_map(fd, base, size, readonly);
	if (rc)
		return rc;
	{
		struct ads_arena opened = {
			(char *)(unsigned long)base, size, ADS_PAGE_SIZE, 0, 0, fd, readonly ? (__u32)ADS_READONLY : 0};
		__u64 magic = ads_load_acquire(&ads_root_of(&opened)->magic); /* A14, pairs with R14 */
		struct ads_root root;

		/* A copy: others may change the memory between a check and a use. */
		memcpy(&root, ads_root_of(&opened), sizeof(root));
		root.magic = magic;
		rc = ads_root_check(&root, base, size);
		a->damaged_at = root.abi_version; /* what was found, for ADS_WRONG_ABI */
		if (rc == ADS_OK) {
			opened.limit = root.populated;
			opened.id = root.creation_id;
			*a = opened;
			return ADS_OK;
		}
	}
	munmap((void *)(unsigned long)base, size);
	return rc;
}

/* Open the arena that is pinned at a path: in a bpf file system, or a file. */
static inline int ads_arena_open_path(struct ads_arena *a, const char *path, int readonly)
{
	int fd = ads_bpf_get(path);
	int rc;

	if (fd < 0)
		fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = ads_arena_open(a, fd, readonly);
	if (rc)
		close(fd);
	return rc;
}

/* Map again at the same place: what a child does after fork, before it touches anything. */
static inline int ads_arena_remap(struct ads_arena *a)
{
	int rc = ads_arena_map(a->fd, (__u64)(unsigned long)a->base, a->size, !ads_writable(a));

	/* A file's mapping is inherited; then there is nothing to do. */
	return rc == ADS_BASE_TAKEN ? ADS_OK : rc;
}

/* Refuse new operations of callers who look at the mark, before the memory goes. mmap() orders it before
 * the zeros of ads_arena_retire(). */
static inline void ads_arena_mark_closed(struct ads_arena *a)
{
	__atomic_or_fetch(&a->flags, (__u32)ADS_CLOSED, __ATOMIC_RELAXED);
}

/*
 * Close while other threads may be in operations on the arena: zeros take the place of its pages,
 * in one step, and private ones, so that what is still stored goes nowhere. They are memory that
 * may be damaged to every operation, which then ends by itself. Whoever starts one looks at
 * ADS_CLOSED first. The addresses stay taken until ads_arena_release(), which is for when
 * nobody can be in an operation. Where the machine has no room for zeros the pages stay till then.
 */
static inline void ads_arena_retire(struct ads_arena *a)
{
	if (!a->base || a->fd < 0)
		return;
	ads_arena_mark_closed(a);
	(void)mmap(a->base, a->size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	close(a->fd);
	a->fd = -1;
}

/* Give the addresses of a retired arena back. */
static inline void ads_arena_release(struct ads_arena *a)
{
	if (!a->base || !(a->flags & ADS_CLOSED))
		return;
	munmap(a->base, a->size);
	a->base = 0;
}

/* Drop this process's view. The arena itself lives on with whatever else holds it. No other
 * thread may be in an operation on it. */
static inline void ads_arena_close(struct ads_arena *a)
{
	if (!a->base)
		return;
	munmap(a->base, a->size);
	close(a->fd);
	a->base = 0;
	a->limit = 0;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_MEMORY_H */
