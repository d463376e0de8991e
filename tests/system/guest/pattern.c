/*
 * pattern put KIB FILE: fills that much memory, and then the disk, with a pattern.
 * pattern find KIB: takes that much memory and looks for the pattern in what it gets.
 * Both say whether it was found.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096

/* Put together when it is needed: the program's own file does not have it. */
static void make_pattern(char pattern[32])
{
	for (int i = 0; i < 8; i++)
		memcpy(pattern + 4 * i, "tjov", 4);
	for (int i = 0; i < 32; i++)
		pattern[i] = (char)(pattern[i] + 1);
}

static void fill_disk(const char *path, const char *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	while (fd >= 0 && write(fd, bytes, size) > 0)
		;
}

int main(int argc, char **argv)
{
	char pattern[32];
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) * 1024 : 0;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || size == 0)
		return 1;
	make_pattern(pattern);
	if (strcmp(argv[1], "put") == 0) {
		for (size_t i = 0; i + sizeof(pattern) <= size; i += sizeof(pattern))
			memcpy(memory + i, pattern, sizeof(pattern));
		fill_disk(argv[3], memory, size);
	} else {
		/* A page that is only read is one of zeros that all share. */
		for (size_t i = 0; i < size; i += PAGE_BYTES)
			memory[i] = 1;
	}
	puts(memmem(memory, size, pattern, sizeof(pattern)) ? "found" : "not found");
	return 0;
}
