// SPDX-License-Identifier: GPL-2.0
// The initiator of the power cut test. It reads all of a disk's region and tells what is there; then each of its workers
// writes sectors that say what they are, one command at a time, and tells of each as soon as its status is there.
#include <errno.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECTOR 512
#define SLOT 13 // sectors that one worker writes: no multiple of a page
#define CHUNK 64

// What is told, as checker.py reads it.
struct record {
	char type;
	uint8_t disk, worker, count;
	uint32_t round;
	uint64_t lba, seq;
};

struct sector {
	char magic[4];
	uint32_t crc;
	uint32_t round;
	uint8_t disk, worker;
	uint16_t zero;
	uint64_t lba, seq;
	uint64_t fill[(SECTOR - 32) / 8];
};

static int dev, out;
static uint8_t disk, worker;
static uint32_t round_;
static uint64_t random_;

static void tell(const struct record *r, int n)
{
	const char *p = (const char *)r;
	size_t left = n * sizeof(*r);

	while (left) {
		ssize_t done = write(out, p, left);
		if (done < 0 && errno != EINTR)
			_exit(3);
		if (done > 0)
			p += done, left -= done;
	}
}

static void say(char type, uint8_t count, uint64_t lba, uint64_t seq)
{
	struct record r = { type, disk, worker, count, round_, lba, seq };

	tell(&r, 1);
}

static uint32_t any(uint32_t below)
{
	random_ ^= random_ << 13;
	random_ ^= random_ >> 7;
	random_ ^= random_ << 17;
	return (random_ >> 16) % below;
}

static uint32_t crc32(const void *data, size_t n)
{
	static uint32_t table[256];
	const uint8_t *p = data;
	uint32_t c = ~0u;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t v = i;
			for (int k = 0; k < 8; k++)
				v = v >> 1 ^ (v & 1 ? 0xEDB88320 : 0);
			table[i] = v;
		}
	while (n--)
		c = table[(c ^ *p++) & 255] ^ c >> 8;
	return ~c;
}

// One command. What an initiator is told once, a unit attention, is heard and the command sent again; anything else that is
// not GOOD ends the worker.
static void scsi(const uint8_t *cdb, int cdb_len, int direction, void *data, unsigned len)
{
	uint8_t sense[32];

	for (int i = 0; i < 8; i++) {
		struct sg_io_hdr h = {
			.interface_id = 'S', .dxfer_direction = direction, .cmd_len = cdb_len, .mx_sb_len = sizeof(sense),
			.dxfer_len = len, .dxferp = data, .cmdp = (uint8_t *)cdb, .sbp = sense, .timeout = 120000,
		};

		memset(sense, 0, sizeof(sense));
		if (ioctl(dev, SG_IO, &h) < 0) {
			say('E', 0, errno, cdb[0]);
			_exit(1);
		}
		if (!h.status && !h.host_status && !h.driver_status)
			return;
		if (h.status == 2 && (sense[0] & 0x7f) == 0x70 && (sense[2] & 15) == 6)
			continue;
		say('E', h.status, (uint64_t)h.host_status << 32 | sense[2] << 16 | sense[12] << 8 | sense[13], cdb[0]);
		_exit(1);
	}
	say('E', 2, 0, cdb[0]);
	_exit(1);
}

static void rw(int write, int fua, uint64_t lba, unsigned n, void *data)
{
	uint8_t cdb[10] = { write ? 0x2a : 0x28, fua ? 8 : 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, n >> 8, n };

	scsi(cdb, sizeof(cdb), write ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV, data, n * SECTOR);
}

static int write_cache(void)
{
	static const uint8_t cdb[6] = { 0x1a, 8, 8, 0, 255 };
	uint8_t mode[255] = { 0 };

	scsi(cdb, sizeof(cdb), SG_DXFER_FROM_DEV, mode, sizeof(mode));
	return mode[4 + mode[3] + 2] >> 2 & 1;
}

static void fill(struct sector *s, uint64_t lba, uint64_t seq)
{
	*s = (struct sector){ { 'P', 'W', 'R', '1' }, 0, round_, disk, worker, 0, lba, seq };
	for (unsigned i = 0; i < sizeof(s->fill) / 8; i++)
		s->fill[i] = seq * 0x9E3779B97F4A7C15 + lba + i;
	s->crc = crc32(s, SECTOR);
}

// R: a sector of ours. Z: zeroes. X: anything else.
static struct record look(struct sector *s, uint64_t lba)
{
	static const struct sector zero;
	uint32_t crc = s->crc;

	if (!memcmp(s, &zero, SECTOR))
		return (struct record){ 'Z', disk, 0, 0, 0, lba, 0 };
	s->crc = 0;
	if (crc32(s, SECTOR) != crc || memcmp(s->magic, "PWR1", 4) || s->lba != lba || s->disk != disk)
		return (struct record){ 'X', disk, 0, 0, 0, lba, *(uint64_t *)s };
	return (struct record){ 'R', disk, s->worker, 0, s->round, lba, s->seq };
}

static void verify(void *data, uint64_t sectors)
{
	struct record records[CHUNK];

	for (uint64_t lba = 0; lba < sectors; lba += CHUNK) {
		unsigned n = sectors - lba < CHUNK ? sectors - lba : CHUNK;

		rw(0, 0, lba, n, data);
		for (unsigned i = 0; i < n; i++)
			records[i] = look((struct sector *)data + i, lba + i);
		tell(records, n);
	}
	say('V', 0, sectors, 0);
}

static void synchronize(unsigned n, uint64_t lba)
{
	uint8_t cdb[10] = { 0x35, 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, n >> 8, n };

	say('s', n, lba, 0);
	scsi(cdb, sizeof(cdb), SG_DXFER_NONE, NULL, 0);
	say('S', n, lba, 0);
}

static void unmap(unsigned n, uint64_t lba)
{
	static const uint8_t cdb[10] = { 0x42, 0, 0, 0, 0, 0, 0, 0, 24 };
	uint8_t list[24] = { 0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, 0, 0, n };

	say('U', n, lba, 0);
	scsi(cdb, sizeof(cdb), SG_DXFER_TO_DEV, list, sizeof(list));
}

// Of slots that the workers take in turns, so that neighbours share pages. Without a write cache each write is durable (D),
// with one those with FUA are, and the others (W) when a SYNCHRONIZE CACHE has ended that began after them. Some rounds have the
// one, some the other: a disk without FUA flushes everything for it, which would hide that SYNCHRONIZE CACHE does nothing.
static void work(struct sector *data, uint64_t sectors, unsigned workers, int wce, int unmaps)
{
	unsigned slots = sectors / SLOT / workers;
	int with_fua = wce && round_ % 3 != 1, with_sync = wce && round_ % 3 != 2;

	for (uint64_t seq = 1;; seq++) {
		uint64_t slot = ((uint64_t)any(slots) * workers + worker) * SLOT;
		unsigned at = any(SLOT), n = 1 + any(SLOT - at);
		int fua = with_fua && any(3) == 0;

		for (unsigned i = 0; i < n; i++)
			fill(data + i, slot + at + i, seq);
		rw(1, fua, slot + at, n, data);
		say(fua || !wce ? 'D' : 'W', n, slot + at, seq);
		if (with_sync && any(4) == 0) {
			if (any(2))
				synchronize(0, 0); // all of the disk
			else
				synchronize(SLOT, slot);
		}
		if (unmaps && any(20) == 0)
			unmap(SLOT, ((uint64_t)any(slots) * workers + worker) * SLOT);
	}
}

// writer FD DEVICE DISK ROUND SEED SECTORS WORKERS UNMAPS
int main(int argc, char **argv)
{
	struct sector *data;
	uint64_t sectors;
	unsigned workers;
	int wce;

	if (argc != 9)
		return 2;
	out = atoi(argv[1]);
	disk = atoi(argv[3]);
	round_ = atoi(argv[4]);
	dev = open(argv[2], O_RDWR | O_NONBLOCK);
	if (dev < 0 || posix_memalign((void **)&data, 4096, CHUNK * SECTOR)) {
		say('E', 0, errno, 0);
		return 1;
	}
	sectors = atoi(argv[6]);
	workers = atoi(argv[7]);
	wce = write_cache();
	say('C', wce, 0, 0);
	verify(data, sectors);
	for (worker = 0; worker < workers; worker++) {
		if (fork())
			continue;
		random_ = (strtoull(argv[5], NULL, 10) * 64 + disk * 4 + worker + 1) * 0x9E3779B97F4A7C15;
		work(data, sectors, workers, wce, atoi(argv[8]));
	}
	return 0;
}
