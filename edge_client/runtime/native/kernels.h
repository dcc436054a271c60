/* All kernels of one variant. */
#include "lanes.h"

#include "batch_norm.h"
#include "elementwise.h"
#include "limits.h"
#include "loss.h"
#include "pooling.h"
#include "product.h"

#include "dense.h"
