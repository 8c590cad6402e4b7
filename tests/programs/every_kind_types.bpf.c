/* every_kind_types.bpf.c - compiled for its BTF alone: the types of every_kind.h. */
#include <arenads/bpf.h>
#include "every_kind.h"

struct task unused;
struct job unused_too;
