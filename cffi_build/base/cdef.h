/* SPDX-License-Identifier: MIT */
/* What a header declares between KS_CDEF and KS_CDEF_END is Python's too: build.py has the compiler preprocess api.h and
 * hands these parts to cffi. They hold declarations that cffi understands, and no #include. */
#ifndef KS_CDEF_H
#define KS_CDEF_H

#ifndef KS_FOR_CFFI
#define KS_CDEF
#define KS_CDEF_END
#endif

#endif
