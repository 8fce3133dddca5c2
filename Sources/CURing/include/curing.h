#ifndef CURING_H
#define CURING_H
#ifdef STAMPEDE_URING
#include <liburing.h>
#endif
#endif
