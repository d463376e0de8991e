/* random BYTES: prints so many of getrandom(2)'s, at most 256, as hexadecimal digits. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int main(int argc, char **argv)
{
	unsigned char bytes[256];
	size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;

	if (size == 0 || size > sizeof(bytes) || getrandom(bytes, size, 0) != (ssize_t)size)
		return 1;
	for (size_t i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
	return 0;
}
