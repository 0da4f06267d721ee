// SPDX-License-Identifier: MIT
/*
 * A plugin for QEMU's emulation that notes which of some instructions are executed. The kernel is the one under test:
 * nothing is compiled into it.
 *
 *   table=FILE  virtual addresses of the instructions: 64-bit, in this host's byte order, sorted
 *   hits=FILE   a byte for each of them, which becomes 1; shared with whoever reads and clears them
 *
 * Declared here is what is used of QEMU's qemu-plugin.h, which Debian has no package for.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NO_REGISTERS 0

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*call)(unsigned int cpu, void *data),
					    int registers, void *data);

EXPORT int qemu_plugin_version = PLUGIN_API;

static const uint64_t *table;
static size_t count;
static uint8_t *hits;

static void executed(unsigned int cpu, void *data)
{
	*(volatile uint8_t *)data = 1;
}

/* The place of the first address in the table that is not below `address`. */
static size_t place_of(uint64_t address)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (table[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t length = qemu_plugin_tb_n_insns(tb);

	for (size_t i = 0; i < length; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		size_t place;

		if (address < table[0] || address > table[count - 1])
			continue;
		place = place_of(address);
		if (table[place] == address)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, NO_REGISTERS, hits + place);
	}
}

static void *mapped(const char *path, int mode, int protection, size_t *size)
{
	struct stat status;
	void *memory = MAP_FAILED;
	int file = open(path, mode | O_CLOEXEC);

	if (file >= 0 && fstat(file, &status) == 0 && status.st_size > 0) {
		*size = status.st_size;
		memory = mmap(NULL, *size, protection, MAP_SHARED, file, 0);
	}
	if (file >= 0)
		close(file);
	if (memory == MAP_FAILED)
		fprintf(stderr, "coverage: %s: can't be mapped\n", path);
	return memory == MAP_FAILED ? NULL : memory;
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	size_t table_size = 0, hits_size = 0;

	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "table=", 6) == 0)
			table = mapped(argv[i] + 6, O_RDONLY, PROT_READ, &table_size);
		else if (strncmp(argv[i], "hits=", 5) == 0)
			hits = mapped(argv[i] + 5, O_RDWR, PROT_READ | PROT_WRITE, &hits_size);
	}
	count = table_size / sizeof(*table);
	if (!table || !hits || count == 0 || hits_size < count) {
		fprintf(stderr, "coverage: expected a table and a byte of hits for each of its addresses\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
