/* template_make: makes a template, in a place that the caller has locked (template.h). */
#ifndef HOST_TOOLS_TEMPLATE_MAKE_H
#define HOST_TOOLS_TEMPLATE_MAKE_H

#include "host-tools/template.h"

/* A template's files; beside it, with the key before it, what is being made and a rejection. */
#define TEMPLATE_FACTS	  "template.json"
#define TEMPLATE_MEMORY	  "memory"
#define TEMPLATE_STATE	  "state"
#define TEMPLATE_NEW	  ".new"
#define TEMPLATE_REJECTED ".rejected"
/* And in it, for each suspended job that needs it, a file that names the job's state. */
#define TEMPLATE_NEEDED	  "needed-"

/*
 * Boots a VM and saves it, beside its name, and renames it. What another process left that was
 * killed here is removed, and so are templates that were not used for long when there are too many.
 * 0; else nothing is left and ERROR is set: -1, or 1 where somebody killed the VM, which says
 * nothing of a template.
 */
int template_make(int place_fd, const struct template_wish *wish, const char *key,
		  struct error *error);

/* Writes REASON to KEY's rejection; what cannot be written is tried again next time. */
void template_write_rejection(int place_fd, const char *key, const char *reason);

#endif
