# SPDX-License-Identifier: GPL-2.0
# What each target does is in README.md; each makes what it needs first.
.PHONY: all install demo check check-host check-vm check-debug check-kcsan check-rt lint fuzz bench rust-project clean \
	check-fio check-rows check-teardown check-attributes check-slow check-hostile check-logins check-sessions check-libiscsi-matrix check-iscsi-matrix check-sequences check-power check-reboot check-boot

all:
	@scripts/build
install:
	@scripts/install
demo:
	@scripts/demo
check:
	@scripts/check
check-host:
	@T="$(T)" scripts/check-host
check-vm:
	@T="$(T)" scripts/check-vm
check-debug check-kcsan check-rt:
	@T="$(T)" scripts/check-flavour $(@:check-%=%)
check-fio check-rows check-teardown check-attributes check-slow check-hostile check-logins check-sessions check-libiscsi-matrix check-iscsi-matrix check-sequences:
	@scripts/check-long $(@:check-%=%)
check-power check-reboot check-boot:
	@scripts/$@
lint:
	@scripts/lint
fuzz:
	@scripts/fuzz
bench:
	@scripts/bench
rust-project:
	@scripts/rust-project
clean:
	@scripts/clean
