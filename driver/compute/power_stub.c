#include "driver/compute/power.h"
#include "driver/compute/rescue.h"
struct err *power_off_guest(struct node *n, struct instance *i, bool c);
struct err *power_stop(struct node *n, const struct rctx *x, struct instance *i, bool c);
struct err *power_off_guest(struct node *n, struct instance *i, bool c){(void)n;(void)i;(void)c;return err_msg(ERR_NOT_IMPLEMENTED,"stub");}
struct err *power_stop(struct node *n, const struct rctx *x, struct instance *i, bool c){(void)n;(void)x;(void)i;(void)c;return err_msg(ERR_NOT_IMPLEMENTED,"stub");}
struct err *power_hard_reboot(struct node *n, const struct rctx *x, struct instance *i){(void)n;(void)x;(void)i;return err_msg(ERR_NOT_IMPLEMENTED,"stub");}
struct err *rescue_undo(struct node *n, const struct rctx *x, struct instance *i){(void)n;(void)x;(void)i;return err_msg(ERR_NOT_IMPLEMENTED,"stub");}
