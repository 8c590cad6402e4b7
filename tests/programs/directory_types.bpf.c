/* directory_types.bpf.c - compiled for its BTF alone: the types of directory.h. */
#include <arenads/bpf.h>
#include "directory.h"

struct task unused;
