/*
 * mutation: random changes to the metadata of a good job disk, where they matter: whole fields of
 * superblock, group descriptors, inodes, extents, directory entries and extended attributes, with
 * values that are nearly right as often as absurd ones.
 */
#ifndef TESTS_HOSTILE_MUTATION_H
#define TESTS_HOSTILE_MUTATION_H

#include "tests/hostile/craft.h"

#define REGIONS_MAX	64
#define ALTERATIONS_MAX 40

/* A part of the image that consists of metadata. */
struct region {
	uint64_t offset;
	size_t size;
	enum region_kind { REGION_WORDS, REGION_INODES, REGION_ENTRIES, REGION_XATTRS } kind;
};

struct mutation {
	struct craft *craft;
	struct region regions[REGIONS_MAX];
	size_t region_count;
	uint64_t state; /* of the random numbers */
	struct alteration {
		uint64_t offset, before;
	} alterations[ALTERATIONS_MAX];
	size_t alteration_count;
};

/* Finds what can be changed in the good image of CRAFT, and makes a few more kinds of things. */
void mutation_start(struct mutation *mutation, struct craft *craft);
/* Changes it: the same SEED, the same changes. */
void mutation_apply(struct mutation *mutation, uint64_t seed);
void mutation_undo(struct mutation *mutation);

#endif
