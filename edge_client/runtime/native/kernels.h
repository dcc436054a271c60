/* All kernels of one variant. */
#include "lanes.h"
#include "tails.h"

#include "elementary.h"

#include "activations.h"
#include "batch_norm.h"
#include "padding.h"
#include "dropout.h"
#include "elementwise.h"
#include "gates.h"
#include "group_norm.h"
#include "limits.h"
#include "loss.h"
#include "pooling.h"
#include "product.h"
#include "shaping.h"

#include "dense.h"
