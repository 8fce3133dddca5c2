#include "octets.h"
