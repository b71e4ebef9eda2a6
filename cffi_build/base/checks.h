/* SPDX-License-Identifier: MIT */
/* KS_ASSERT states what always holds, whatever the peer or the application does; what comes from outside is checked by
 * ordinary code. It is looked at where KS_CHECKS is defined, in tests and sanitizer builds: one that does not hold ends the
 * process. In the product it is not evaluated and costs nothing. */
#ifndef KS_CHECKS_H
#define KS_CHECKS_H

#ifdef KS_CHECKS
_Noreturn void ks_check_failed(const char *condition, const char *file, int line, const char *function);
#define KS_ASSERT(condition) ((condition) ? (void)0 : ks_check_failed(#condition, __FILE__, __LINE__, __func__))
#else
#define KS_ASSERT(condition) ((void)sizeof(!(condition)))
#endif

/* KS_CHECK(check_this(that)) calls a KS_CHECKER, a function that only asserts. */
#define KS_CHECKER __attribute__((unused)) static
#ifdef KS_CHECKS
#define KS_CHECK(call) call
#else
#define KS_CHECK(call) ((void)0)
#endif

#endif
