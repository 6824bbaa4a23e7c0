// What the server says of its answers.

/** Whether a warning says that less is given than there is. */
export const isCut = (warning: string): boolean => /truncat|partial|incomplete|not all|cut off|missing/i.test(warning);
