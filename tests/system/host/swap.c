/*
 * Races a program that writes below a directory: swap LINK PATH...
 * Exchanges each PATH with the symlink LINK, and back, until it is ended. Says "ready" first.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	if (argc < 3)
		return EXIT_FAILURE;
	puts("ready");
	fflush(stdout);
	for (;;)
		for (int i = 2; i < argc; i++)
			if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[i], RENAME_EXCHANGE) == 0)
				while (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[i],
						 RENAME_EXCHANGE))
					;
}
