/* directory.h - the records of directory.c. */
#ifndef DIRECTORY_H
#define DIRECTORY_H

enum state { STATE_RUNNING = 1, STATE_SLEEPING = 2 };

struct task {
	unsigned long long calls;
	enum state state;
	int delta;
	char comm[16];
};

#endif
