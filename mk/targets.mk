# What people type: set up, run, test, check, install. Building is in ../Makefile.

# As many jobs as processors, unless the user said how many.
SUB = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# Stages that print one line each, and what they did only when they fail. V=1: all of it.
STAGE = +@V=$(V) tools/stage.sh

.PHONY: run demo serve test unit asan tsan fuzz bench check layers format install install-program uninstall

## make run      install what is missing (Debian), build, start the service, print its address; PORT=8081, V=1
run:
	@tools/setup.sh build
	$(STAGE) build $(SUB) all
	@V=$(V) PORT=$(PORT) tools/run.sh build/diffscm

## make demo     a sheet of 10 digits x 10 targets from the shipped bundle, as build/demo.png
demo:
	@tools/setup.sh build
	$(STAGE) build $(SUB) all
	build/diffscm demo --out build/demo.png

## make test     install what is missing, build, run every test; WERROR=1: warnings are errors
test:
	@tools/setup.sh build test
	@$(SUB) all tests
	@tests/run.sh build/release

## make unit     the C test programs alone, built as BUILD says; ONLY=regex: only those are built and run
unit: tests
	@tests/run.sh --unit $(OUT) '$(ONLY)'

## make asan     the tests under AddressSanitizer and UndefinedBehaviourSanitizer; UNIT=1: no HTTP
asan:
	@$(SUB) BUILD=asan all tests
	@tests/run.sh $(if $(UNIT),--unit) build/asan '$(ONLY)'

## make tsan     the tests under ThreadSanitizer
tsan:
	@$(SUB) BUILD=tsan $(if $(UNIT),,all) tests
	@tests/run.sh $(if $(UNIT),--unit) build/tsan '$(ONLY)'

## make bench    time of every kernel and network against this machine's peak
bench: all
	build/diffscm bench

## make check    format, layers, file lengths, static analysis
check:
	@tools/setup.sh build check
	@$(SUB) all
	@tools/check.sh build/release

## make layers   which rooms include which; fails on a cycle, on an arrow against their order, on a wrong symbol
layers: all
	@python3 tests/layers/rooms.py --print
	@tests/layers/run.sh $(OUT)

## make format   lay out all C files as .clang-format says
format:
	clang-format -i $$(git ls-files '*.c' '*.h')

## make install  program, library, manual page, completion, models, page and documents below PREFIX (/usr/local); DESTDIR is honoured
SHARE := $(DESTDIR)$(PREFIX)/share/diffscm
DOC   := $(DESTDIR)$(PREFIX)/share/doc/diffscm
SHELLS := bash:bash-completion/completions/diffscm zsh:zsh/site-functions/_diffscm
MANUAL := $(DESTDIR)$(PREFIX)/share/man/man1/diffscm.1
install: install-program install-library
	@find README.md CHANGELOG.md LICENSE docs examples/embed.c -type f -print0 | \
	    xargs -0 -I{} install -D -m 644 {} "$(DOC)/{}"

## make install-program  the same without library and documents
install-program: all
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/diffscm
	@if $(PROGRAM) --man >$(OUT)/diffscm.1; then install -D -m 644 $(OUT)/diffscm.1 $(MANUAL); \
	    else echo 'install: no manual page: $(PROGRAM) does not run on this machine'; fi
	@for shell in $(SHELLS); do $(PROGRAM) --completion $${shell%%:*} >$(OUT)/completion && \
	    install -D -m 644 $(OUT)/completion $(DESTDIR)$(PREFIX)/share/$${shell##*:}; done
	@find models static examples -type f ! -name '*.c' -print0 | xargs -0 -I{} install -D -m 644 {} "$(SHARE)/{}"

uninstall: uninstall-library
	rm -rf $(DESTDIR)$(PREFIX)/bin/diffscm $(MANUAL) $(SHARE) $(DOC) \
	    $(foreach shell,$(SHELLS),$(DESTDIR)$(PREFIX)/share/$(lastword $(subst :, ,$(shell))))

## make clean    remove build/
