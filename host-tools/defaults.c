#include "host-tools/defaults.h"

#include <stdlib.h>
#include <string.h>

static void add_words(char *const *words, struct strings *arguments)
{
	for (; words && *words; words++)
		strings_add(arguments, *words);
}

int defaults_command(const struct image_defaults *defaults, struct job *job)
{
	add_words(defaults->entrypoint, &job->arguments);
	add_words(defaults->command, &job->arguments);
	return job->arguments.count == 0;
}

/* From the last to the first: of two entries for one name the last counts, as in the job's own. */
int defaults_environment(const struct image_defaults *defaults, struct job *job,
			 struct error *error)
{
	char *const *first = defaults->environment;
	size_t count = 0;

	while (first && first[count])
		count++;
	while (count-- > 0)
		if (!environment_find(&job->environment, first[count]) &&
		    environment_set(&job->environment, first[count], error))
			return -1;
	job_bind_manifest(job);
	return 0;
}
