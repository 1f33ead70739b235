"""Transform: page -> parcel; pure."""
