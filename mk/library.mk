# The library to embed: libdiffscm.so with soname and export list, libdiffscm.a, public headers, diffscm.pc.
# What is public is listed in include/diffscm/: diffscm.h names the headers, symbols the functions;
# tests/install holds both together. The archive of the core alone, $(CORE_LIB), is for our own programs.
LIBDIR ?= $(PREFIX)/lib
PUBLIC := $(shell sed -n 's/^\#include "\(core[^"]*\)"/\1/p' include/diffscm/diffscm.h)
# Until 1.0 every minor version has a soname of its own; see core/base/version.h.
SONAME := libdiffscm.so.$(basename $(VERSION))
SHARED := $(OUT)/lib/libdiffscm.so.$(VERSION)
STATIC := $(OUT)/lib/libdiffscm.a
SYMBOLS := include/diffscm/symbols
CORE_OBJ := $(call obj,$(CORE_SRC)) $(SIMD_OBJ)

.PHONY: library install-library uninstall-library
## make library  libdiffscm.so and libdiffscm.a in build/release/lib
library: $(SHARED) $(STATIC)

$(SHARED): $(CORE_OBJ) $(SYMBOLS)
	@mkdir -p $(@D)
	@{ echo 'DSCM_$(basename $(VERSION)) { global:'; sed 's/$$/;/' $(SYMBOLS); echo 'local: *; };'; } >$(@D)/version-script
	$(CC) $(CFLAGS_$(BUILD)) $(HARDEN) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,-z,defs -Wl,--as-needed \
	    -Wl,--version-script=$(@D)/version-script -o $@ $(filter %.o,$^) $(CORE_LIBS)
	@ln -sf $(@F) $(@D)/$(SONAME)
	@ln -sf $(@F) $(@D)/libdiffscm.so

# One object whose other symbols are local: they cannot meet those of the program that links it.
$(STATIC): $(CORE_OBJ) $(SYMBOLS)
	@mkdir -p $(@D)
	@rm -f $@
	$(CC) -r -nostdlib -o $(@D)/diffscm.o $(filter %.o,$^)
	$(or $(OBJCOPY),objcopy) --keep-global-symbols=$(SYMBOLS) $(@D)/diffscm.o
	ar rcs $@ $(@D)/diffscm.o

install-library: library
	@for header in $(PUBLIC) include/diffscm/diffscm.h; do \
	    mkdir -p $(OUT)/$$(dirname $$header) && \
	    sed 's,^#include "core/,#include "diffscm/core/,' $$header >$(OUT)/$$header.public && \
	    install -D -m 644 $(OUT)/$$header.public \
	        $(DESTDIR)$(PREFIX)/include/diffscm/$${header#include/diffscm/} || exit 1; done
	install -D -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)/$(notdir $(SHARED))
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libdiffscm.so
	install -D -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)/libdiffscm.a
	@printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'libdir=$(LIBDIR)' '' 'Name: diffscm' \
	    'Description: counterfactual images by diffusion models over structural causal models' \
	    'Version: $(VERSION)' 'Cflags: -I$${includedir}' \
	    'Libs: -L$${libdir} -ldiffscm' 'Libs.private: $(CORE_LIBS)' >$(OUT)/lib/diffscm.pc
	install -D -m 644 $(OUT)/lib/diffscm.pc $(DESTDIR)$(LIBDIR)/pkgconfig/diffscm.pc

uninstall-library:
	rm -rf $(DESTDIR)$(PREFIX)/include/diffscm $(DESTDIR)$(LIBDIR)/libdiffscm.* $(DESTDIR)$(LIBDIR)/pkgconfig/diffscm.pc
